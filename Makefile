# tapsnap: a block backend for Xen guests
#
#   make              build everything into build/
#   make demo         the main job on this machine, no Xen needed
#   make check        every test, the real-Xen ones included (up to 40 minutes)
#   make check-fast   every test that needs no Xen lab (under two minutes)
#   make soak         the long ones
#   make bench        the benchmarks that docs/performance.md quotes
#   make install      DESTDIR= PREFIX=/usr/local
#   make asan|tsan    everything again in build-asan/ or build-tsan/, and the unit tests
#   make deps         the Debian packages that are missing (installs them as root)

VERSION = 0.1
CC ?= gcc
PREFIX ?= /usr/local
BUILD ?= build
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter $(if $(CI),-Werror)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -fPIC -pthread $(WARNINGS) $(SANITIZE) $(CFLAGS)
INCLUDES = -Iinclude
ALL_LDFLAGS = -pthread $(SANITIZE) $(LDFLAGS)

# libxen's interface is used directly; everything else comes by pkg-config
PKGS = jansson liburing libseccomp libsystemd
LIBS = $(shell pkg-config --libs $(PKGS)) -laio -lxengnttab -lxenevtchn -lxenstore -lxentoolcore

DRIVER_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard drivers/*.c))
ENGINE_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tapdisk/engine*.c))
TAPDISK_OBJS  = $(patsubst %.c,$(BUILD)/%.o,$(filter-out tapdisk/engine%,$(wildcard tapdisk/*.c)))
CLIENT_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/client*.c))
TAPCTL_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tap-ctl*.c))
TAPBACK_OBJS  = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tapback*.c))

PROGRAMS = $(BUILD)/bin/tapdisk $(BUILD)/bin/tap-ctl $(BUILD)/bin/tapback
UNIT_TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))

all: $(PROGRAMS)

-include mk/*.mk

$(BUILD)/bin/tapdisk: $(TAPDISK_OBJS) $(ENGINE_OBJS) $(DRIVER_OBJS)
$(BUILD)/bin/tap-ctl: $(TAPCTL_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
$(BUILD)/bin/tapback: $(TAPBACK_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)

$(BUILD)/bin/%:
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(INCLUDES) -MMD -MP -c -o $@ $<

# a unit test links everything but the mains
TEST_OBJS = $(filter-out $(BUILD)/tapdisk/main.o,$(TAPDISK_OBJS)) $(ENGINE_OBJS) $(DRIVER_OBJS) $(CLIENT_OBJS) $(BLKFRONT_OBJS) \
	$(BUILD)/tests/unit/fixture.o
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(TEST_OBJS) | $(BUILD)/bin/tapdisk
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka
$(BUILD)/tests/unit/%.o: INCLUDES += -Itapdisk -Idrivers -Icontrol

unit-tests: $(UNIT_TESTS)

clean:
	rm -rf build build-asan build-tsan

.PHONY: all clean unit-tests
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
