# tapsnap: a block backend for Xen guests
#
#   make              build everything into build/
#   make demo         a tapdisk and a frontend on this machine, no Xen needed
#   make check        every test, the real-Xen ones included (20 minutes to an hour)
#   make check-fast   every test that needs no Xen lab (under two minutes)
#   make soak         the long tests
#   make bench        the benchmarks, beside their peers: minutes up to an hour (BENCH="CASE..." for some; benchmarks/README.md)
#   make bench-quick  a few of them, under 50 seconds
#   make bench-where  where the time of a request of one case goes (BENCH="CASE"; needs root)
#   make bench-report the tables and charts of docs/performance.md out of docs/performance/results.json
#   make examples     programs that use the library of domain snapshots
#   make install      DESTDIR= PREFIX=/usr/local
#   make static-check analysers that run nothing: cppcheck, gcc's analyzer, clang-tidy
#   make asan|tsan    build everything in build-asan/ or build-tsan/, and run the unit and system tests
#   make valgrind     the system tests of the tools, with the tools under valgrind
#   make coverage     the percentage of the lines of ring, request and cow code that the tests run
#   make build-deps   the Debian packages that the build lacks: installs them (root) or prints the command
#   make deps         the same for `make check`; the targets above install what they need themselves
#   make clean

VERSION = 0.1
PREFIX ?= /usr/local
BUILD ?= build
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Wno-missing-field-initializers $(if $(CI),-Werror)
# Root's programs face guests and networks. Sanitizers check more, and do not work with all of these.
ifndef SANITIZE
HARDENING := -fstack-protector-strong -fstack-clash-protection $(if $(filter x86_64-%,$(shell $(CC) -dumpmachine)),-fcf-protection) \
	$(if $(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
HARDENING_LDFLAGS = -Wl,-z,relro,-z,now
endif
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -fPIC -pthread $(WARNINGS) $(HARDENING) $(SANITIZE) $(CFLAGS)
INCLUDES = -Iinclude
ALL_LDFLAGS = -pthread $(HARDENING_LDFLAGS) $(SANITIZE) $(LDFLAGS)

PKGS = jansson liburing libseccomp libsystemd libisal xengnttab xenevtchn xenstore xentoolcore
XL_PKGS = xenlight xlutil xentoollog xencontrol xenguest
LIBS = $(shell pkg-config --libs $(PKGS)) -laio

DRIVER_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard drivers/*.c drivers/*/*.c))
ENGINE_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tapdisk/engine*.c))
TAPDISK_OBJS  = $(patsubst %.c,$(BUILD)/%.o,$(filter-out tapdisk/engine%,$(wildcard tapdisk/*.c)))
CLIENT_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/client*.c) control/child.c)
TAPCTL_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tap-ctl*.c) control/options.c control/usage.c control/xen_disks.c)
TAPBACK_OBJS  = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tapback*.c))
TAPIMG_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tap-img*.c) control/usage.c)
DOMAIN_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/domain_*.c) control/xen_disks.c)
XLSNAP_OBJS   = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/xl-snapshot*.c) control/options.c control/usage.c)
TLS_OBJS      = $(patsubst %.c,$(BUILD)/%.o,$(wildcard control/tls*.c))
# How processes give up rights (include/confine.h, sandbox.h): tapdisk and tapdisk-tls use the same code.
CONFINE_OBJS  = $(patsubst %,$(BUILD)/tapdisk/%.o,confine sandbox) $(patsubst %,$(BUILD)/drivers/%.o,descriptors error image_directories path)
BLKFRONT_OBJS = $(patsubst %.c,$(BUILD)/%.o,$(filter-out benchmarks/blkfront_xen%,$(wildcard benchmarks/blkfront*.c)))

PROGRAMS = $(BUILD)/bin/tapdisk $(BUILD)/bin/tap-ctl $(BUILD)/bin/tapback $(BUILD)/bin/tap-img $(BUILD)/bin/xl-snapshot
# TLS in front of exports; it is left out where there is no GnuTLS.
GNUTLS = $(shell pkg-config --exists gnutls && echo yes)
PROGRAMS += $(if $(GNUTLS),$(BUILD)/bin/tapdisk-tls)
UNIT_TESTS = $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(filter-out $(if $(GNUTLS),,%/test_tls_session.c),$(wildcard tests/unit/test_*.c)))

# Toolstacks link this for snapshots of domains, with $(LIBRARY_PKGS) and -laio: tapsnap.pc says so.
LIBRARY_PKGS = jansson liburing libisal xenstore $(XL_PKGS)
LIBRARY = $(BUILD)/lib/libtapsnap.a
LIBRARY_HEADERS = $(patsubst %,include/%.h,domain-snapshot domain-snapshot-libxl error-text)

all: $(PROGRAMS) $(LIBRARY)

$(BUILD)/bin/tapdisk: $(TAPDISK_OBJS) $(ENGINE_OBJS) $(DRIVER_OBJS) $(BUILD)/control/client_json_memory.o
$(BUILD)/bin/tap-ctl: $(TAPCTL_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
$(BUILD)/bin/tap-img: $(TAPIMG_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
$(BUILD)/bin/tap-img: LIBS += $(shell pkg-config --libs libnbd)
$(BUILD)/bin/tapback: $(TAPBACK_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)

# The program that faces the network contains no code for disks.
$(BUILD)/bin/tapdisk-tls: $(TLS_OBJS) $(CONFINE_OBJS) $(BUILD)/drivers/inherited.o
$(BUILD)/bin/tapdisk-tls: LIBS = $(shell pkg-config --libs libseccomp gnutls)

$(BUILD)/bin/xl-snapshot: $(XLSNAP_OBJS) $(DOMAIN_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
$(BUILD)/bin/xl-snapshot: LIBS += $(shell pkg-config --libs $(XL_PKGS))

# One object that exports only the names in the headers: the others cannot clash with the caller's own names.
OBJCOPY ?= objcopy
LIBRARY_NAMES = $(sort $(shell grep -oh '\bdomain_snapshot[a-z_]*' $(LIBRARY_HEADERS)))
$(BUILD)/lib/tapsnap.o: $(DOMAIN_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS) $(LIBRARY_HEADERS)
	@mkdir -p $(@D)
	$(LD) -r -o $@ $(filter %.o,$^)
	$(OBJCOPY) $(LIBRARY_NAMES:%=--keep-global-symbol=%) $@
$(LIBRARY): $(BUILD)/lib/tapsnap.o
	rm -f $@
	$(AR) rcs $@ $^

EXAMPLES = $(patsubst docs/examples/%.c,$(BUILD)/examples/%,$(wildcard docs/examples/*.c))
examples: $(EXAMPLES)
$(BUILD)/examples/%: $(BUILD)/docs/examples/%.o $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(shell pkg-config --libs $(LIBRARY_PKGS)) -laio

$(BUILD)/bin/%:
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -pie -o $@ $(filter %.o,$^) $(LIBS)

# The flags of the objects: with other flags they are compiled again, but not by `make install`, which takes what there is.
FLAGS := $(filter-out ccache,$(CC)) $(ALL_CFLAGS) $(ALL_LDFLAGS)
$(BUILD)/flags: $(if $(filter install,$(MAKECMDGOALS)),,flags)
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@

$(BUILD)/%.o: %.c $(BUILD)/flags | prerequisites
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(INCLUDES) -MMD -MP -c -o $@ $<

# These calculate with numbers that guests, clients and images choose.
SIGN_CHECKED = $(filter-out $(SIGN_UNCHECKED),$(patsubst %.c,%.o,$(wildcard tapdisk/ring.c tapdisk/blkif*.c tapdisk/nbd*.c drivers/cow/*.c)))
SIGN_UNCHECKED = $(patsubst %,%.o,tapdisk/blkif_io drivers/cow/cow_base drivers/cow/cow_disk_io)
$(SIGN_CHECKED:%=$(BUILD)/%): WARNINGS += -Wsign-conversion

# The store has its own directory, and uses the code that all drivers share.
$(BUILD)/drivers/cow/%.o $(BUILD)/points/drivers/cow/%.o: INCLUDES += -Idrivers

# The fio engine. It needs the headers of the installed fio, which benchmarks/fio-headers fetches.
FIO_DIR = $(BUILD)/fio
FIO_ENGINE = $(BUILD)/lib/fio-blkfront.so

$(FIO_DIR)/config-host.h: benchmarks/fio-headers $(wildcard /var/lib/dpkg/info/fio.list)
	@mkdir -p $(BUILD)
	benchmarks/fio-headers $(FIO_DIR)
	@touch $@
$(BUILD)/benchmarks/fio-blkfront.o: $(FIO_DIR)/config-host.h
$(BUILD)/benchmarks/fio-blkfront.o: INCLUDES += -isystem $(FIO_DIR) -include $(FIO_DIR)/config-host.h
$(FIO_ENGINE): $(BUILD)/benchmarks/fio-blkfront.o $(BLKFRONT_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS) \
		benchmarks/fio-blkfront.map
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -Wl,--as-needed -Wl,--version-script=benchmarks/fio-blkfront.map -o $@ $(filter %.o,$^) $(LIBS)
fio-engine: $(FIO_ENGINE)

# A unit test links everything except the files with main().
TEST_OBJS = $(filter-out $(BUILD)/tapdisk/main.o,$(TAPDISK_OBJS)) $(ENGINE_OBJS) $(DRIVER_OBJS) $(CLIENT_OBJS) $(BLKFRONT_OBJS) \
	$(BUILD)/tests/unit/fixture.o
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(TEST_OBJS) | $(BUILD)/bin/tapdisk
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka
$(BUILD)/tests/%.o: WARNINGS += -Wno-conversion
$(BUILD)/tests/unit/%.o: INCLUDES += -Itapdisk -Idrivers -Idrivers/cow -Icontrol -Ibenchmarks

# tapback's tests: its own objects without main(), a store in memory and a tapdisk that only answers.
TAPBACK_TEST_OBJS = $(filter-out $(BUILD)/control/tapback.o,$(TAPBACK_OBJS)) \
	$(BUILD)/tests/unit/xenstore_memory.o $(BUILD)/tests/unit/fake_tapdisk.o
$(filter $(BUILD)/tests/unit/test_tapback_%,$(UNIT_TESTS)): $(TAPBACK_TEST_OBJS)

# A frontend on real Xen, with which a test in the lab's dom0 does things that no guest's frontend does.
XEN_FRONTEND_OBJS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/xen/frontend/*.c benchmarks/blkfront_xen*.c))
$(BUILD)/tests/xen/frontend/frontend: $(XEN_FRONTEND_OBJS) $(BLKFRONT_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/tests/xen/%.o: INCLUDES += -Ibenchmarks
xen-frontend: $(BUILD)/tests/xen/frontend/frontend

# The long tests are built like unit tests, and use their helpers.
SOAK_TESTS = $(patsubst tests/soak/%.c,$(BUILD)/tests/soak/%,$(wildcard tests/soak/test_*.c))
$(BUILD)/tests/soak/%: $(BUILD)/tests/soak/%.o $(TEST_OBJS) | $(BUILD)/bin/tapdisk
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka
$(BUILD)/tests/soak/%.o: INCLUDES += -Itests/unit -Idrivers -Idrivers/cow -Ibenchmarks

# A store on a device that loses its power, and the array that its contents are compared with.
COW_TEST_OBJS = $(BUILD)/tests/unit/cow_sim.o $(BUILD)/tests/unit/cow_model.o
$(filter $(BUILD)/tests/unit/test_cow_%,$(UNIT_TESTS)): $(COW_TEST_OBJS)
$(BUILD)/tests/unit/test_cow_damage $(BUILD)/tests/unit/test_cow_delete: private ALL_LDFLAGS += -Wl,--wrap=cow_node_get
$(BUILD)/tests/unit/test_cow_file: private ALL_LDFLAGS += -Wl,--wrap=pread -Wl,--wrap=pwrite -Wl,--wrap=fdatasync \
	-Wl,--wrap=fsync -Wl,--wrap=linkat -Wl,--wrap=rename -Wl,--wrap=renameat2 -Wl,--wrap=unlink -Wl,--wrap=path_open
$(BUILD)/tests/unit/test_cow_growth: private ALL_LDFLAGS += -Wl,--wrap=cow_version_gone

# The same for a served store, with many requests in flight.
LIVE_TEST_OBJS = $(patsubst %,$(BUILD)/tests/unit/%.o,engine_crash live_base live_check live_command live_disk live_merge live_model live_run live_store)
$(filter $(BUILD)/tests/unit/test_cow_driver_%,$(UNIT_TESTS)): $(LIVE_TEST_OBJS)
$(filter $(BUILD)/tests/unit/test_cow_driver_%,$(UNIT_TESTS)): private ALL_LDFLAGS += -Wl,--wrap=cow_clock_now
$(BUILD)/tests/unit/test_cow_driver_waits: private ALL_LDFLAGS += -Wl,--wrap=fiber_start -Wl,--wrap=cow_write_start
$(BUILD)/tests/unit/test_cow_driver_growth: private ALL_LDFLAGS += -Wl,--wrap=ftruncate
$(BUILD)/tests/soak/test_cow_driver: $(COW_TEST_OBJS) $(LIVE_TEST_OBJS)
$(BUILD)/tests/soak/test_cow_driver: private ALL_LDFLAGS += -Wl,--wrap=cow_clock_now

# The record of an overlay, which has to be durable.
$(BUILD)/tests/unit/test_overlay: private ALL_LDFLAGS += -Wl,--wrap=fsync -Wl,--wrap=unlink -Wl,--wrap=rename
$(BUILD)/tests/unit/test_snapshot_group: private ALL_LDFLAGS += -Wl,--wrap=fsync

# The limit of a wait passes when the test says so.
$(BUILD)/tests/unit/test_snapshot_revert: private ALL_LDFLAGS += -Wl,--wrap=clock_gettime

# The process that takes over is killed in between.
$(BUILD)/tests/unit/test_takeover: private ALL_LDFLAGS += -Wl,--wrap=tapctl_call

# Snapshots of a domain, without Xen.
DOMAIN_TEST_OBJS = $(DOMAIN_OBJS) $(BUILD)/tests/unit/domain_fake.o $(BUILD)/tests/unit/domain_expect.o
DOMAIN_TESTS = $(filter $(BUILD)/tests/unit/test_domain%,$(UNIT_TESTS))
$(DOMAIN_TESTS): $(DOMAIN_TEST_OBJS)
$(BUILD)/tests/unit/test_domain_json: $(BUILD)/control/xl-snapshot-print.o
$(DOMAIN_TESTS): LIBS += $(shell pkg-config --libs $(XL_PKGS))
$(BUILD)/tests/unit/test_domain_faults: private ALL_LDFLAGS += -Wl,--wrap=fsync
$(BUILD)/tests/unit/test_domain_session: private ALL_LDFLAGS += -Wl,--wrap=poll

$(BUILD)/tests/unit/test_vbd: private ALL_LDFLAGS += -Wl,--wrap=loop_add_timer
$(BUILD)/tests/unit/test_vbd_commit: private ALL_LDFLAGS += -Wl,--wrap=loop_clock -Wl,--wrap=loop_add_timer -Wl,--wrap=loop_remove

# Programs for clang's fuzzer; tests/fuzz/check builds and runs them.
FUZZERS = $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(filter-out $(BUILD)/tapdisk/main.o,$(TAPDISK_OBJS)) $(ENGINE_OBJS) $(DRIVER_OBJS) \
		$(BUILD)/control/client_json_memory.o
	$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(BUILD)/tests/fuzz/%.o: INCLUDES += -Itapdisk -Idrivers -Idrivers/cow
fuzzers: $(FUZZERS)

# Parts of tap-ctl and tap-img that a unit test tests alone.
$(filter %/test_vdev,$(UNIT_TESTS)): $(BUILD)/control/tap-ctl-vdev.o
$(filter %/test_tap_img_progress,$(UNIT_TESTS)): $(BUILD)/control/tap-img-progress.o

# And of tapdisk-tls.
$(filter %/test_tls_session,$(UNIT_TESTS)): $(BUILD)/control/tls_process.o $(BUILD)/control/tls_session.o
$(filter %/test_tls_session,$(UNIT_TESTS)): LIBS += $(shell pkg-config --libs gnutls)
$(filter %/test_tls_session,$(UNIT_TESTS)): private ALL_LDFLAGS += -Wl,--wrap=clock_gettime

# Allocations that fail: the sweep, and the library that is preloaded into the programs for it.
FAULT_MALLOC = $(BUILD)/lib/fault-malloc.so
$(FAULT_MALLOC): $(BUILD)/tests/unit/fault_malloc.o
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -shared -o $@ $<
MEMORY_TEST_OBJS = $(patsubst %,$(BUILD)/tests/unit/%.o,memory_fault memory_sweep memory_sweep_io)
$(BUILD)/tests/unit/test_memory $(BUILD)/tests/soak/test_memory_all: $(MEMORY_TEST_OBJS) | $(FAULT_MALLOC) $(PROGRAMS)

# A tapdisk that kills itself at a point that a test names (include/point.h); files without such points are the program's.
POINT_SOURCES = $(shell grep -l '^\s*test_point\b' tapdisk/*.c drivers/*.c drivers/*/*.c)
POINT_OBJS = $(patsubst %.c,$(BUILD)/points/%.o,$(POINT_SOURCES))
$(BUILD)/points/%.o: %.c $(BUILD)/flags | prerequisites
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(INCLUDES) -DTEST_POINTS -MMD -MP -c -o $@ $<
$(BUILD)/tests/tapdisk-points: $(POINT_OBJS) $(BUILD)/tests/unit/point.o $(filter-out $(POINT_SOURCES:%.c=$(BUILD)/%.o), \
		$(TAPDISK_OBJS) $(ENGINE_OBJS) $(DRIVER_OBJS)) $(BUILD)/control/client_json_memory.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
# An xl-snapshot that kills itself or xenstored after a step that a test names, for the Xen lab.
$(BUILD)/tests/xl-snapshot-points: $(BUILD)/points/control/xl-snapshot.o $(BUILD)/tests/unit/point_steps.o \
		$(filter-out %/xl-snapshot.o,$(XLSNAP_OBJS)) $(DOMAIN_OBJS) $(CLIENT_OBJS) $(DRIVER_OBJS) $(ENGINE_OBJS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(shell pkg-config --libs $(XL_PKGS))
xl-snapshot-points: $(BUILD)/tests/xl-snapshot-points

TAKEOVER_TESTS = $(patsubst %,$(BUILD)/tests/%,unit/test_takeover unit/test_takeover_steps soak/test_takeover_kills)
$(TAKEOVER_TESTS): $(BUILD)/tests/unit/takeover_load.o
$(BUILD)/tests/unit/test_takeover_steps: | $(BUILD)/tests/tapdisk-points

unit-tests: $(UNIT_TESTS) $(PROGRAMS) xl-snapshot-points

# Everything that is compiled, for tests/static/check, but fio's engine, which needs the headers of fio.
objects: $(patsubst %.c,$(BUILD)/%.o,$(wildcard tapdisk/*.c drivers/*.c drivers/*/*.c control/*.c benchmarks/blkfront*.c \
	tests/unit/*.c tests/soak/*.c tests/fuzz/*.c tests/xen/frontend/*.c docs/examples/*.c))

# One line that names what is missing, instead of many from the compiler.
prerequisites:
	@missing="$$(for p in $(firstword $(CC)) pkg-config; do command -v $$p >/dev/null || echo $$p; done; \
		for p in $(PKGS) $(XL_PKGS) libnbd; do pkg-config --exists $$p 2>/dev/null || echo $$p; done)"; [ -z "$$missing" ] || \
	{ echo "to build, these are missing:" $$missing "(on Debian 'make build-deps' installs them)" >&2; exit 1; }

# Debian packages. Root gets missing ones installed; for others the command is printed.
# tests/xen/lab-build also reads the first line.
BUILD_PACKAGES = gcc libc6-dev pkg-config libxen-dev liburing-dev libaio-dev libjansson-dev libseccomp-dev libsystemd-dev libisal-dev libnbd-dev libgnutls28-dev
FIO_PACKAGES   = fio jq dpkg-dev
TEST_PACKAGES  = g++ perl libcmocka-dev libnbd-bin python3 python3-libnbd nbdkit qemu-utils e2fsprogs util-linux mount procps mandoc gnutls-bin systemd
BENCH_PACKAGES = qemu-system-common nbdkit gnuplot-nox python3 qemu-utils
WHERE_PACKAGES = linux-perf
FUZZ_PACKAGES  = clang libclang-rt-dev
STATIC_PACKAGES = cppcheck
VALGRIND_PACKAGES = valgrind
LAB_PACKAGES   = debootstrap cpio kmod xz-utils zstd e2fsprogs busybox-static
missing = $(shell for p in $(1); do dpkg-query -W -f '$${Status}\n' $$p 2>/dev/null | grep -qx 'install ok installed' || echo $$p; done)
define install_packages
	@missing="$(strip $(call missing,$(1)))"; [ -z "$$missing" ] || \
	if [ "$$(id -u)" = 0 ]; then \
		echo "installing $$missing"; tests/packages $$missing; \
	else \
		echo "packages are missing; as root:  apt-get install --no-install-recommends $$missing" >&2; exit 1; \
	fi
endef

build-deps:
	$(call install_packages,$(BUILD_PACKAGES))
demo-deps:
	$(call install_packages,$(BUILD_PACKAGES) $(FIO_PACKAGES))
check-deps:
	$(call install_packages,$(BUILD_PACKAGES) $(FIO_PACKAGES) $(TEST_PACKAGES))
bench-deps:
	$(call install_packages,$(BUILD_PACKAGES) $(FIO_PACKAGES) $(BENCH_PACKAGES))
lab-deps:
	$(call install_packages,$(LAB_PACKAGES))
deps:
	$(call install_packages,$(BUILD_PACKAGES) $(FIO_PACKAGES) $(TEST_PACKAGES) $(LAB_PACKAGES) $(FUZZ_PACKAGES) $(STATIC_PACKAGES))

# A driver or a tool may include files of its own directory and of include/, and drivers/cow/ also those of drivers/. -I gives
# them no more; this finds paths that get around it.
layers:
	@! grep -rn '#include "[^"]*/' --include='*.[ch]' include tapdisk drivers control benchmarks tests

# The tests print TAP. prove runs them, and prints a line for each, what was skipped, why a test failed, and the totals.
# Most tests wait more than they compute, so more run at a time than there are processors; testrules.yml says which must run alone.
JOBS ?= 4
PROVE = BUILD=$(BUILD) prove --timer -j$(JOBS) -e tests/tap
SYSTEM_TESTS = $(wildcard tests/system/test_*.sh)

# The packages have to be installed before make looks at their files, hence the second make. It uses all processors unless
# -j says otherwise.
MAKE_AGAIN = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

demo: demo-deps
	@echo "building"
	@$(MAKE_AGAIN) -s all fio-engine
	@BUILD=$(BUILD) benchmarks/demo

check-fast: check-deps
	@$(MAKE_AGAIN) all examples fio-engine unit-tests layers
	$(PROVE) $(SYSTEM_TESTS) $(UNIT_TESTS)

check: deps
	@$(MAKE_AGAIN) all examples fio-engine unit-tests layers
	$(PROVE) $(SYSTEM_TESTS) $(UNIT_TESTS) tests/iotests/check tests/static/check tests/fuzz/check tests/xen/check

# TAPSNAP_SOAK_SECONDS= is the time of each test (600). Then all tests on real Xen, with every type of guest.
soak: deps static-deps valgrind-deps coverage-deps bench-deps
	@$(MAKE_AGAIN) all fio-engine soak-tests
	$(PROVE) -j1 --verbose $(SOAK_TESTS)
	TAPSNAP_STRIDE=1 $(PROVE) -j1 --verbose $(STRIDE_TESTS)
	seed=$$(date +%s); echo "TAPSNAP_SEED=$$seed"; TAPSNAP_SEED=$$seed TAPSNAP_SEEDS=300 $(PROVE) -j1 --verbose $(SEED_TESTS)
	tests/static/check -a
	$(MAKE) --no-print-directory asan
	$(MAKE) --no-print-directory tsan
	$(MAKE) --no-print-directory coverage
	BUILD=$(BUILD) tests/valgrind/check
	tests/fuzz/check -n
	BUILD=$(BUILD) benchmarks/run --goals --json $(BUILD)/results-soak.json stall-10T revert-10T memory-10T
	tests/xen/check -a
	tests/xen/power-cut
	tests/xen/power-cut -u
# sweeps that leave some points out, unless they are told not to
STRIDE_TESTS = $(patsubst %,$(BUILD)/tests/unit/%,test_takeover_steps test_cow_driver_faults)
# random tests of a store that take a second for a few seeds
SEED_TESTS = $(patsubst %,$(BUILD)/tests/unit/%,test_cow_crash test_cow_faults test_cow_model)
soak-tests: $(SOAK_TESTS) $(PROGRAMS) $(STRIDE_TESTS) $(SEED_TESTS)

# The figures of docs/performance.md are measured like this: benchmarks/README.md.
RESULTS = $(BUILD)/results.json
bench bench-quick: bench-deps
	@$(MAKE_AGAIN) -s all fio-engine
	@BUILD=$(BUILD) benchmarks/run $(if $(filter bench-quick,$@),--quick --json $(BUILD)/results-quick.json,--json $(RESULTS)) $(BENCH)
	@benchmarks/report --charts $(BUILD)/charts $(if $(filter bench-quick,$@),$(BUILD)/results-quick.json,$(RESULTS))
bench-where: bench-deps
	$(call install_packages,$(WHERE_PACKAGES))
	@$(MAKE_AGAIN) -s all fio-engine
	@BUILD=$(BUILD) benchmarks/where $(BENCH)
bench-report: bench-deps
	benchmarks/report --charts docs/performance --document docs/performance.md docs/performance/results.json

static-deps: deps
	$(call install_packages,clang-tidy)
static-check: static-deps
	tests/static/check -a

valgrind-deps: check-deps
	$(call install_packages,$(VALGRIND_PACKAGES))
valgrind: valgrind-deps
	@$(MAKE_AGAIN) all
	BUILD=$(BUILD) tests/valgrind/check

asan: SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=undefined
# gcc warns that it does not check fences; ours order memory that is shared with a guest, which it cannot see anyway
tsan: SANITIZERS = -fsanitize=thread -Wno-tsan
asan tsan: check-deps
	@$(MAKE_AGAIN) BUILD=build fio-engine
	@$(MAKE_AGAIN) BUILD=build-$@ SANITIZE="$(SANITIZERS)" CFLAGS="-O1 -g -fno-omit-frame-pointer" sanitized

# Nobody would see a finding in a program that a test starts: findings go to files, and in the end there must be none.
# fio is not made for a sanitizer, so it has the engine of the plain build.
SANITIZER_LOG = $(abspath $(BUILD))/log/sanitizer
sanitized: all examples unit-tests
	@rm -f $(SANITIZER_LOG).*
	@ln -sf $(abspath build/lib/$(notdir $(FIO_ENGINE))) $(FIO_ENGINE)
	export ASAN_OPTIONS=log_path=$(SANITIZER_LOG) UBSAN_OPTIONS=log_path=$(SANITIZER_LOG) TSAN_OPTIONS=log_path=$(SANITIZER_LOG); \
		$(PROVE) $(SYSTEM_TESTS) $(UNIT_TESTS); status=$$?; ! cat $(SANITIZER_LOG).* 2>/dev/null && exit $$status

# The share of the lines of ring, request and cow code that the tests run: below 90 % this fails. Its tapdisks stay root,
# because they write gcov's data (KEEP_USER). Without test_tap_ctl.sh: it runs programs as a user who may not write these data;
# gcov's message about that comes where one line is expected.
coverage-deps: check-deps
	$(call install_packages,gcovr)
coverage: coverage-deps
	@$(MAKE_AGAIN) BUILD=build-$@ SANITIZE=--coverage CFLAGS="-O0 -g -DKEEP_USER" measured
measured: all fio-engine unit-tests
	find $(BUILD) -name '*.gcda' -delete
	KEEP_USER=1 $(PROVE) $(filter-out %/test_tap_ctl.sh,$(SYSTEM_TESTS)) $(UNIT_TESTS)
	gcovr --root . --fail-under-line 90 -f 'tapdisk/(ring|blkif|vbd|guest_memory|stats|waiter)' -f drivers/cow/ $(BUILD)

SBINDIR = $(PREFIX)/sbin
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include/tapsnap
PKGCONFIGDIR = $(LIBDIR)/pkgconfig
MANDIR = $(PREFIX)/share/man
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
XEN_SCRIPT_DIR = /etc/xen/scripts
COMPLETIONDIR = $(PREFIX)/share/bash-completion/completions
COMPLETED = tap-ctl tap-img xl-snapshot

install: all
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(XEN_SCRIPT_DIR)
	install $(PROGRAMS) $(DESTDIR)$(SBINDIR)
	install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(PKGCONFIGDIR)
	install -m644 $(LIBRARY) $(DESTDIR)$(LIBDIR)
	install -m644 $(LIBRARY_HEADERS) $(DESTDIR)$(INCLUDEDIR)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|; s|@PKGS@|$(LIBRARY_PKGS)|' \
		control/tapsnap.pc.in >$(DESTDIR)$(PKGCONFIGDIR)/tapsnap.pc
	install -m644 docs/man/*.8 $(DESTDIR)$(MANDIR)/man8
	sed 's|@SBINDIR@|$(SBINDIR)|g' control/tapback.service.in >$(DESTDIR)$(UNITDIR)/tapback.service
	install -m644 control/tapsnap.sysusers $(DESTDIR)$(SYSUSERSDIR)/tapsnap.conf
	install control/block-tapsnap $(DESTDIR)$(XEN_SCRIPT_DIR)
	install -d $(DESTDIR)$(COMPLETIONDIR)
	for program in $(COMPLETED); do install -m644 control/tapsnap.bash $(DESTDIR)$(COMPLETIONDIR)/$$program || exit; done

uninstall:
	rm -f $(PROGRAMS:$(BUILD)/bin/%=$(DESTDIR)$(SBINDIR)/%) $(patsubst docs/man/%,$(DESTDIR)$(MANDIR)/man8/%,$(wildcard docs/man/*.8)) \
		$(DESTDIR)$(UNITDIR)/tapback.service $(DESTDIR)$(SYSUSERSDIR)/tapsnap.conf $(DESTDIR)$(XEN_SCRIPT_DIR)/block-tapsnap $(DESTDIR)$(LIBDIR)/libtapsnap.a \
		$(DESTDIR)$(PKGCONFIGDIR)/tapsnap.pc $(COMPLETED:%=$(DESTDIR)$(COMPLETIONDIR)/%) \
		$(LIBRARY_HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%)
	[ ! -d $(DESTDIR)$(INCLUDEDIR) ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(INCLUDEDIR)
	@for link in $(DESTDIR)/etc/systemd/system/*.wants/tapback.service; do \
		[ "$$(readlink "$$link")" != $(UNITDIR)/tapback.service ] || rm -v "$$link"; done
	@echo "what stays: the user tapsnap, /etc/tapsnap, /var/lib/tapsnap and /var/lib/xen/snapshots (which disks are in which"
	@echo "store, and the snapshots of domains), all images, and what still runs: a tapdisk ends with its last disk"

clean:
	rm -rf build build-asan build-tsan build-coverage build-fuzz

.PHONY: all clean flags examples unit-tests objects fuzzers fio-engine xen-frontend xl-snapshot-points build-deps demo-deps check-deps bench-deps lab-deps deps static-deps static-check valgrind-deps valgrind coverage-deps coverage measured layers demo check-fast check soak soak-tests bench bench-quick bench-where bench-report prerequisites asan tsan sanitized install uninstall
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
