# The frontend library that tests and the fio engine are built on.
BLKFRONT_OBJS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard benchmarks/blkfront*.c))
