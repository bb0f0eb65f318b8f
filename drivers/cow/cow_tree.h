/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_tree.h - what a checkpoint builds, shared by cow_tree.c and
 * cow_checkpoint.c.
 */
#ifndef DRIVERS_COW_TREE_H
#define DRIVERS_COW_TREE_H

#include "cow_internal.h"

struct cow_builder {
	struct cow_store *store;
	struct cow_version *version;
	struct cow_list allocated, freed;
	size_t released;			/* of freed, in the bitmap */
	uint64_t changes, done;			/* of all layers; those of them that are in new leaves */
	uint64_t pool, pool_count;		/* blocks that are taken and not used yet */
	uint8_t *node[COW_MAX_LEVELS + 1];	/* one for each level of the path */
	/* Nodes of one version that go to neighbouring blocks are written together. Nothing reads them before its end. */
	uint8_t *gathered;
	uint64_t first;
	unsigned count;
};

int cow_builder_init(struct cow_builder *builder, struct cow_store *store);
void cow_builder_free(struct cow_builder *builder);
/* The versions' new_root and new_levels. */
int cow_builder_trees(struct cow_builder *builder);
/* What the new trees do not have is free, on hold. */
int cow_builder_release(struct cow_builder *builder);
/* As if nothing had been. */
void cow_builder_undo(struct cow_builder *builder);

#endif
