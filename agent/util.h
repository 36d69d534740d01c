/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things every module may use: cleanup attributes, ownership transfer, the monotonic
 * clock, intrusive lists, text forms of identifiers, file replacement.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

#define ARRAY_SIZE(a)	      (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	      ((a) < (b) ? (a) : (b))
#define MAX(a, b)	      ((a) > (b) ? (a) : (b))
#define CLAMP(v, low, high)   MIN(MAX((v), (low)), (high))
#define CONTAINER_OF(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))

/* Takes the pointer or fd out of a variable, so that its cleanup does nothing. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

/* fn gets the address of the variable. The variable must be initialised. */
#define _cleanup_(fn)	    __attribute__((cleanup(fn)))
#define _cleanup_free_	    _cleanup_(util_freep)
#define _cleanup_close_	    _cleanup_(util_closep)
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))

void util_freep(void *pp);
void util_closep(int *fd);

/* Milliseconds and microseconds of CLOCK_MONOTONIC, UTIL_CLOCK_AHEAD_US ahead of it: so there are
 * times for what was heard before this boot. Never the wall clock. */
#define UTIL_CLOCK_AHEAD_US (UINT64_C(400) * 86400 * 1000000)
uint64_t util_now_ms(void);
uint64_t util_now_us(void);

/* 2024-01-01, Unix time: a wall clock before that was never set. */
#define UTIL_CLOCK_SET_S INT64_C(1704067200)

/* Fills buf with random bytes of the kernel. Aborts if there are none: nothing can go on. */
void util_random(void *buf, size_t len);
/* Uniform in [0, limit]; limit < 2^32. */
uint32_t util_random_below(uint32_t limit);

/* 8-4-4-4-12 text of 16 bytes in network order. ret has UTIL_UUID_TEXT bytes, NUL included. */
#define UTIL_UUID_TEXT 37
void util_uuid_text(const uint8_t uuid[16], char ret[UTIL_UUID_TEXT]);
/* The other way, from exactly that text, in any case. Returns whether it was one. */
bool util_uuid_parse(const char *text, size_t len, uint8_t ret[16]);

/* What a CBOR text must be: RFC 3629. */
bool util_is_utf8(const void *text, size_t len);
/* As much of text as fits, NUL included, in whole characters; '?' for each byte that is of none. */
void util_copy_utf8(char *ret, size_t size, const char *text);

/* Opens for reading only what is a regular file. flags: O_NOFOLLOW, or 0 to follow links. Returns
 * an fd, or -errno; -EPERM for what is no regular file. */
int util_open_regular(const char *path, int flags, struct stat *ret);
/* Fills buf, as far as the file goes. Returns the length or -errno. */
ssize_t util_read(int fd, void *buf, size_t size);
/* Reads the whole file into a new NUL-terminated buffer, at most max bytes (-EFBIG). The caller
 * frees *ret. Returns its length or -errno. */
ssize_t util_read_fd(int fd, size_t max, char **ret);
/* Replaces path by a file with this content: temp file beside it, fsync, rename, fsync of the
 * folder. What was there stays whole on every error. Returns 0 or -errno. */
int util_replace_file(const char *path, mode_t mode, const void *data, size_t len);
/* Removes a file, or a symbolic link itself, for good: fsync of the folder. Returns 0 or -errno. */
int util_remove_file(const char *path);

/* A doubly linked list through a member of its elements; the list owns nothing. */
struct list {
	struct list *prev, *next;
};
void list_init(struct list *head);
bool list_empty(const struct list *head);
void list_append(struct list *head, struct list *item);
/* Takes item out of the list it is in, if any; it may be appended again. */
void list_remove(struct list *item);
#define LIST_ENTRY(l, t, m)   CONTAINER_OF(l, t, m)
#define LIST_FOREACH(l, head) for (struct list *l = (head)->next; l != (head); l = l->next)
/* The body may remove l. */
#define LIST_FOREACH_SAFE(l, head)                                                                 \
	for (struct list *l = (head)->next, *l##_next = l->next; l != (head);                      \
	     l = l##_next, l##_next = l->next)
