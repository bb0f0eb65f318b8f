/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cppcheck.h - macros of libraries whose headers cppcheck does not read, as far as it has to understand them. */
#define json_array_foreach(array, index, value) \
	for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index)); index++)
#define json_object_foreach(object, key, value) \
	for (void *each = json_object_iter(object); \
	     (key = json_object_iter_key(each)) && (value = json_object_iter_value(each)); \
	     each = json_object_iter_next(object, each))
#define json_object_foreach_safe(object, next, key, value) json_object_foreach(object, key, value)
