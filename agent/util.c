/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

void util_freep(void *pp)
{
	free(*(void **)pp);
}

void util_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

uint64_t util_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return UTIL_CLOCK_AHEAD_US + (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t util_now_ms(void)
{
	return util_now_us() / 1000;
}

void util_random(void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno != EINTR)
			abort();
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

uint32_t util_random_below(uint32_t limit)
{
	uint64_t wide;

	util_random(&wide, sizeof(wide));
	/* 2^64 is so much larger than limit that the bias cannot be told. */
	return (uint32_t)(wide % ((uint64_t)limit + 1));
}

void util_uuid_text(const uint8_t uuid[16], char ret[UTIL_UUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	char *p = ret;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[uuid[i] >> 4];
		*p++ = digits[uuid[i] & 15];
	}
	*p = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 'a' ^ 'A'; /* lower case */
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool util_uuid_parse(const char *text, size_t len, uint8_t ret[16])
{
	const char *p = text;
	uint8_t uuid[16];

	if (len != UTIL_UUID_TEXT - 1)
		return false;
	for (int i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-')
			return false;
		high = hex_digit(*p++);
		low = hex_digit(*p++);
		if (high < 0 || low < 0)
			return false;
		uuid[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret, uuid, sizeof(uuid));
	return true;
}

/* The length of the well-formed character at p (RFC 3629, section 4), 0 for none. */
static size_t utf8_char(const uint8_t *p, size_t len)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	if (n == 0 || n > len || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

bool util_is_utf8(const void *text, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_char((const uint8_t *)text + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

void util_copy_utf8(char *ret, size_t size, const char *text)
{
	size_t left = strlen(text), room = size - 1;

	while (left > 0) {
		size_t n = utf8_char((const uint8_t *)text, left);

		if (MAX(n, 1) > room)
			break;
		if (n == 0)
			*ret = '?';
		else
			memcpy(ret, text, n);
		n = MAX(n, 1);
		ret += n;
		room -= n;
		text += n;
		left -= n;
	}
	*ret = '\0';
}

int util_open_regular(const char *path, int flags, struct stat *ret)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
	if (fd < 0)
		return errno == ELOOP && (flags & O_NOFOLLOW) ? -EPERM : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPERM;
	*ret = st;
	return TAKE_FD(fd);
}

ssize_t util_read(int fd, void *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, (char *)buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

ssize_t util_read_fd(int fd, size_t max, char **ret)
{
	_cleanup_free_ char *buf = malloc(max + 2);
	ssize_t len;

	if (!buf)
		return -ENOMEM;
	len = util_read(fd, buf, max + 1);
	if (len < 0)
		return len;
	if ((size_t)len > max)
		return -EFBIG;
	buf[len] = '\0';
	*ret = TAKE_PTR(buf);
	return len;
}

static int write_all(int fd, const uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_folder_of(const char *path)
{
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_close_ int fd = -1;
	char *slash;

	if (!folder)
		return -ENOMEM;
	slash = strrchr(folder, '/');
	if (slash == folder)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int util_replace_file(const char *path, mode_t mode, const void *data, size_t len)
{
	_cleanup_free_ char *temp = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (asprintf(&temp, "%s.XXXXXX", path) < 0) {
		temp = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fchmod(fd, mode) < 0 ? -errno : write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temp);
		return r;
	}
	return sync_folder_of(path);
}

int util_remove_file(const char *path)
{
	return unlink(path) < 0 ? -errno : sync_folder_of(path);
}

void list_init(struct list *head)
{
	head->prev = head->next = head;
}

bool list_empty(const struct list *head)
{
	return head->next == head;
}

void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

void list_remove(struct list *item)
{
	if (!item->next)
		return;
	item->prev->next = item->next;
	item->next->prev = item->prev;
	item->prev = item->next = NULL;
}
