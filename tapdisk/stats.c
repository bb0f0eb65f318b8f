/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stats.c - counts requests and their latency, and makes JSON of the counters. */
#include "stats.h"

/* Bucket 0 is below 1 us (1024 ns); then there are four buckets per power of two. */
#define FIRST_BIT 10

static unsigned stats_bucket(uint64_t ns)
{
	unsigned bit, bucket;

	if (ns < 1u << FIRST_BIT)
		return 0;
	bit = 63 - __builtin_clzll(ns);
	bucket = 1 + (bit - FIRST_BIT) * 4 + (ns >> (bit - 2) & 3);
	return bucket < STATS_BUCKETS ? bucket : STATS_BUCKETS - 1;
}

/* The upper bound of the bucket, exclusive, ns. */
static uint64_t stats_bucket_end(unsigned bucket)
{
	unsigned bit, quarter;

	if (!bucket)
		return 1u << FIRST_BIT;
	bit = FIRST_BIT + (bucket - 1) / 4;
	quarter = (bucket - 1) % 4;
	return (1ull << bit) + (quarter + 1ull) * (1ull << (bit - 2));
}

void stats_submit(struct queue_stats *queue, enum block_op op)
{
	queue->ops[op].submitted++;
}

void stats_complete(struct queue_stats *queue, enum block_op op, uint64_t bytes, uint64_t latency_ns, int error)
{
	struct op_stats *stats = &queue->ops[op];

	stats->completed++;
	if (error)
		stats->errors++;
	else
		stats->bytes += bytes;
	stats->total_ns += latency_ns;
	if (latency_ns > stats->max_ns)
		stats->max_ns = latency_ns;
	stats->histogram[stats_bucket(latency_ns)]++;
}

static void stats_add_op(struct op_stats *sum, const struct op_stats *op)
{
	sum->submitted += op->submitted;
	sum->completed += op->completed;
	sum->errors += op->errors;
	sum->bytes += op->bytes;
	sum->total_ns += op->total_ns;
	if (op->max_ns > sum->max_ns)
		sum->max_ns = op->max_ns;
	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		sum->histogram[i] += op->histogram[i];
}

void stats_add(struct queue_stats *sum, const struct queue_stats *queue)
{
	for (unsigned op = 0; op < BLOCK_NR_OPS; op++)
		stats_add_op(&sum->ops[op], &queue->ops[op]);
	sum->invalid += queue->invalid;
	sum->kicks += queue->kicks;
	sum->batches += queue->batches;
	sum->notifies += queue->notifies;
}

static double microseconds(uint64_t ns)
{
	return (double)ns / 1000;
}

/* The latency (us) below which @percent of the completed requests were, to the precision of a bucket. */
static double stats_percentile(const struct op_stats *op, double percent)
{
	uint64_t below = 0, wanted = (uint64_t)((double)op->completed * percent / 100);

	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		below += op->histogram[i];
		if (below > wanted)
			return microseconds(stats_bucket_end(i));
	}
	return microseconds(op->max_ns);
}

/* Pairs of (end of the bucket in microseconds, requests), empty buckets left out. */
static json_t *stats_histogram_json(const struct op_stats *op)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		if (op->histogram[i])
			json_array_append_new(array, json_pack("[f, I]", microseconds(stats_bucket_end(i)),
							       (json_int_t)op->histogram[i]));
	return array;
}

static json_t *stats_op_json(const struct op_stats *op)
{
	double mean = op->completed ? microseconds(op->total_ns) / (double)op->completed : 0;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f, s:o}}",
			 "requests", (json_int_t)op->submitted,
			 "completed", (json_int_t)op->completed,
			 "in_flight", (json_int_t)(op->submitted - op->completed),
			 "errors", (json_int_t)op->errors,
			 "bytes", (json_int_t)op->bytes,
			 "latency_us",
				"mean", mean,
				"p50", stats_percentile(op, 50),
				"p99", stats_percentile(op, 99),
				"max", microseconds(op->max_ns),
				"histogram", stats_histogram_json(op));
}

json_t *stats_queue_json(const struct queue_stats *queue)
{
	json_t *object = json_object();

	for (unsigned op = 0; op < BLOCK_NR_OPS; op++)
		json_object_set_new(object, block_op_name(op), stats_op_json(&queue->ops[op]));
	json_object_set_new(object, "invalid", json_integer(queue->invalid));
	json_object_set_new(object, "kicks", json_integer(queue->kicks));
	json_object_set_new(object, "batches", json_integer(queue->batches));
	json_object_set_new(object, "notifies", json_integer(queue->notifies));
	return object;
}

void stats_count_stall(struct stall_stats *stalls, uint64_t stall_ns)
{
	stalls->count++;
	stalls->last_ns = stall_ns;
	if (stall_ns > stalls->longest_ns)
		stalls->longest_ns = stall_ns;
}

json_t *stats_stall_json(const struct stall_stats *stalls)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f}",
			 "count", (json_int_t)stalls->count,
			 "last_us", microseconds(stalls->last_ns),
			 "longest_us", microseconds(stalls->longest_ns),
			 "last_drain_us", microseconds(stalls->last_drain_ns),
			 "longest_drain_us", microseconds(stalls->longest_drain_ns));
}
