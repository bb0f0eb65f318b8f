# The fio engine. It needs the headers of the installed fio (benchmarks/fio-headers).
FIO_DIR = $(BUILD)/fio
FIO_ENGINE = $(BUILD)/lib/fio-blkfront.so
FIO_STATUS = /var/lib/dpkg/info/fio.list

$(FIO_DIR)/config-host.h: benchmarks/fio-headers $(wildcard $(FIO_STATUS))
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

.PHONY: fio-engine
