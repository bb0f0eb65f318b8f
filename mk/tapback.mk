# tapback's tests: its own objects but the main, a store in memory and a tapdisk that only answers.
TAPBACK_TEST_OBJS = $(filter-out $(BUILD)/control/tapback.o,$(TAPBACK_OBJS)) \
	$(BUILD)/tests/unit/store_memory.o $(BUILD)/tests/unit/fake_tapdisk.o
$(BUILD)/tests/unit/test_tapback_frontend $(BUILD)/tests/unit/test_tapback_device: $(TAPBACK_TEST_OBJS)
