# Things to run by hand that need no Xen.
demo: all fio-engine
	@BUILD=$(BUILD) benchmarks/demo

# The figures that docs/performance.md quotes; BENCH="-t 10 benchmarks/randread-4k-qd32.fio" for others.
bench: all fio-engine
	@BUILD=$(BUILD) benchmarks/run -j $(BUILD)/bench.json $(BENCH)

.PHONY: demo bench
