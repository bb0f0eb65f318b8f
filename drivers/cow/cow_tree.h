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
	size_t released;			/* entries of freed that are free in the bitmap */
	uint64_t changes, done;			/* map changes of all layers; those in new leaves */
	uint64_t pool, pool_count;		/* blocks allocated, but not used yet */
	uint8_t *node[COW_MAX_LEVELS + 1];	/* the path, one node for each level */
	/* Nodes of one version in adjacent blocks are written together. Nothing reads them before the version's end. */
	uint8_t *gathered;
	uint64_t first;
	unsigned count;
};

int cow_builder_init(struct cow_builder *builder, struct cow_store *store);
void cow_builder_free(struct cow_builder *builder);
/* Builds the trees, and sets the versions' new_root and new_levels. */
int cow_builder_trees(struct cow_builder *builder);
/* Frees, on hold, the nodes that the new trees do not use. */
int cow_builder_release(struct cow_builder *builder);
/* Undoes all. */
void cow_builder_undo(struct cow_builder *builder);

#endif
