/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the kernel's Bluetooth where it has none. Preloaded into the agent, it makes of each
 * L2CAP LE credit-based channel a pair of SOCK_SEQPACKET Unix sockets: the agent has one end, the
 * simulated radio (bluez_l2cap.py) listens at the path in BLECON_LAB_L2CAP and gets the other. One
 * packet is one SDU. What is checked, and with which errno, is as in net/bluetooth/l2cap_sock.c.
 *
 * For a program that opens these sockets in one thread, and does not dup() them.
 */
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BTPROTO_L2CAP	 0
#define SOL_BLUETOOTH	 274
#define BT_SECURITY	 4
#define BT_SNDMTU	 12
#define BT_RCVMTU	 13
#define BT_SECURITY_LOW	 1
#define BT_SECURITY_FIPS 4
#define BDADDR_LE_PUBLIC 1
#define BDADDR_LE_RANDOM 2
#define LE_PSM_MAX	 0xff
#define DEFAULT_MTU	 672 /* L2CAP_DEFAULT_MTU */

/* What a few SDUs need: more would hide from the agent that the radio, or it, does not read. */
#define BUFFER 4096
/* The radio answers right after it made the socket writable. */
#define STATUS_MS 2000
#define FDS_MAX	  4096

/* glibc declares them with a union of all kinds of addresses. */
#ifdef __GLIBC__
#define ADDRESS(argument) (argument).__sockaddr__
#else
#define __CONST_SOCKADDR_ARG const struct sockaddr *
#define ADDRESS(argument)    (argument)
#endif

struct sockaddr_l2 {
	sa_family_t l2_family;
	uint16_t l2_psm; /* little endian */
	uint8_t l2_bdaddr[6]; /* the last pair of its text first */
	uint16_t l2_cid;
	uint8_t l2_bdaddr_type;
};

struct bt_security {
	uint8_t level;
	uint8_t key_size;
};

enum state {
	STATE_NOT_OURS,
	STATE_OPEN,
	STATE_BOUND,
	STATE_CONNECTING,
	STATE_CONNECTED,
	STATE_CLOSED, /* the attempt failed */
};

/* What the radio is asked, with the other end of the socket: bluez_l2cap.py has the same. */
struct request {
	uint8_t src[6];
	uint8_t src_type;
	uint8_t dst[6];
	uint8_t dst_type;
	uint16_t psm;
	uint16_t rcvmtu;
	uint8_t security;
} __attribute__((packed));

/* Its answer: the first packet, sent when all dummies are drained. */
struct status {
	int32_t error;
	uint16_t sndmtu;
} __attribute__((packed));

struct l2cap_socket {
	enum state state;
	int other_end; /* until connect() hands it over, else -1 */
	uint16_t sndmtu;
	struct request request;
};

static struct l2cap_socket sockets[FDS_MAX]; /* by descriptor */

/* The C library's function, or that of a sanitizer. */
#define NEXT(name)                                                                                 \
	({                                                                                         \
		static __typeof__(&name) found;                                                    \
		if (!found)                                                                        \
			found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                        \
		found;                                                                             \
	})

static struct l2cap_socket *find(int fd)
{
	if (fd < 0 || fd >= FDS_MAX || sockets[fd].state == STATE_NOT_OURS)
		return NULL;
	return &sockets[fd];
}

static int fail(int error)
{
	errno = error;
	return -1;
}

static void set_small_buffer(int fd)
{
	int size = BUFFER;

	NEXT(setsockopt)(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int socket(int domain, int type, int protocol)
{
	int flags = type & (SOCK_NONBLOCK | SOCK_CLOEXEC), ends[2];

	if (domain != AF_BLUETOOTH)
		return NEXT(socket)(domain, type, protocol);
	if (!getenv("BLECON_LAB_L2CAP"))
		return fail(EAFNOSUPPORT);
	if ((type & ~flags) != SOCK_SEQPACKET || protocol != BTPROTO_L2CAP)
		return fail(EPROTONOSUPPORT);
	if (socketpair(AF_UNIX, type, 0, ends) < 0)
		return -1;
	if (ends[0] >= FDS_MAX) {
		NEXT(close)(ends[0]);
		NEXT(close)(ends[1]);
		return fail(EMFILE);
	}
	set_small_buffer(ends[0]);
	set_small_buffer(ends[1]);
	sockets[ends[0]] = (struct l2cap_socket){
		.state = STATE_OPEN,
		.other_end = ends[1],
		.request = {.rcvmtu = DEFAULT_MTU, .security = BT_SECURITY_LOW},
	};
	return ends[0];
}

int close(int fd)
{
	struct l2cap_socket *sock = find(fd);

	if (sock) {
		if (sock->other_end >= 0)
			NEXT(close)(sock->other_end);
		sock->state = STATE_NOT_OURS;
	}
	return NEXT(close)(fd);
}

static bool is_le(uint8_t type)
{
	return type == BDADDR_LE_PUBLIC || type == BDADDR_LE_RANDOM;
}

/* False for what the kernel refuses, and for BR/EDR, which is not simulated. */
static bool read_address(const struct sockaddr *address, socklen_t len, struct sockaddr_l2 *ret)
{
	*ret = (struct sockaddr_l2){0};
	if (!address || len < sizeof(address->sa_family) || address->sa_family != AF_BLUETOOTH)
		return false;
	memcpy(ret, address, len < sizeof(*ret) ? len : sizeof(*ret));
	return is_le(ret->l2_bdaddr_type) && ret->l2_cid == 0;
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	struct l2cap_socket *sock = find(fd);
	struct sockaddr_l2 la;

	if (!sock)
		return NEXT(bind)(fd, address, len);
	if (sock->state != STATE_OPEN)
		return fail(EBADFD);
	/* A PSM would be one to listen on. */
	if (!read_address(ADDRESS(address), len, &la) || la.l2_psm != 0)
		return fail(EINVAL);
	memcpy(sock->request.src, la.l2_bdaddr, sizeof(la.l2_bdaddr));
	sock->request.src_type = la.l2_bdaddr_type;
	sock->state = STATE_BOUND;
	return 0;
}

/* A socket that is full is not writable: a connecting one must not be. */
static void fill(int fd)
{
	while (send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}

static bool send_request(int radio, const struct l2cap_socket *sock)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {(void *)&sock->request, sizeof(sock->request)};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &sock->other_end, sizeof(int));
	return sendmsg(radio, &message, MSG_NOSIGNAL) == sizeof(sock->request);
}

static bool hand_over(struct l2cap_socket *sock)
{
	const char *path = getenv("BLECON_LAB_L2CAP");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int radio = NEXT(socket)(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool done = false;

	if (radio >= 0 && path && strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
		done = NEXT(connect)(radio, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		       send_request(radio, sock);
	}
	if (radio >= 0)
		NEXT(close)(radio);
	NEXT(close)(sock->other_end);
	sock->other_end = -1;
	return done;
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	struct l2cap_socket *sock = find(fd);
	struct sockaddr_l2 la;

	if (!sock)
		return NEXT(connect)(fd, address, len);
	/* A socket that was not bound is one of BR/EDR, which cannot connect to an LE address. */
	if (sock->state == STATE_OPEN || !read_address(ADDRESS(address), len, &la))
		return fail(EINVAL);
	if (sock->state == STATE_CONNECTED)
		return fail(EISCONN);
	if (sock->state != STATE_BOUND)
		return fail(sock->state == STATE_CONNECTING ? EALREADY : EBADFD);
	memcpy(sock->request.dst, la.l2_bdaddr, sizeof(la.l2_bdaddr));
	sock->request.dst_type = la.l2_bdaddr_type;
	sock->request.psm = le16toh(la.l2_psm);
	if (sock->request.psm == 0 || sock->request.psm > LE_PSM_MAX)
		return fail(EINVAL);
	fill(fd);
	if (!hand_over(sock)) {
		sock->state = STATE_CLOSED;
		return fail(EHOSTUNREACH);
	}
	sock->state = STATE_CONNECTING;
	/* A blocking socket is told so too: the agent has none. */
	return fail(EINPROGRESS);
}

/* The radio's answer to connect(), 0 while there is none. */
static int take_status(int fd, struct l2cap_socket *sock)
{
	struct pollfd writable = {.fd = fd, .events = POLLOUT};
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	struct status status;
	ssize_t n;

	if (poll(&writable, 1, 0) <= 0)
		return 0;
	/* The dummies are going, so it is on its way. */
	poll(&readable, 1, STATUS_MS);
	n = recv(fd, &status, sizeof(status), MSG_DONTWAIT);
	if (n != sizeof(status)) /* the radio is gone */
		status = (struct status){.error = ECONNRESET};
	sock->state = status.error ? STATE_CLOSED : STATE_CONNECTED;
	sock->sndmtu = status.sndmtu;
	return status.error;
}

/* As the kernel: what does not fit is cut. */
static int give(void *value, socklen_t *len, const void *from, socklen_t from_len)
{
	if (*len > from_len)
		*len = from_len;
	memcpy(value, from, *len);
	return 0;
}

static int get_bluetooth(const struct l2cap_socket *sock, int name, void *value, socklen_t *len)
{
	struct bt_security security = {.level = sock->request.security};

	if (name == BT_SECURITY)
		return give(value, len, &security, sizeof(security));
	if (name != BT_SNDMTU && name != BT_RCVMTU)
		return fail(ENOPROTOOPT);
	if (sock->state == STATE_OPEN) /* not LE before bind() */
		return fail(EINVAL);
	if (name == BT_RCVMTU)
		return give(value, len, &sock->request.rcvmtu, sizeof(sock->request.rcvmtu));
	if (sock->state != STATE_CONNECTED)
		return fail(ENOTCONN);
	return give(value, len, &sock->sndmtu, sizeof(sock->sndmtu));
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct l2cap_socket *sock = find(fd);
	int error;

	if (sock && level == SOL_BLUETOOTH)
		return get_bluetooth(sock, name, value, len);
	if (!sock || level != SOL_SOCKET || name != SO_ERROR || sock->state != STATE_CONNECTING)
		return NEXT(getsockopt)(fd, level, name, value, len);
	error = take_status(fd, sock);
	return give(value, len, &error, sizeof(error));
}

static int set_bluetooth(struct l2cap_socket *sock, int name, const void *value, socklen_t len)
{
	uint8_t level;

	switch (name) {
	case BT_SECURITY:
		if (len < sizeof(level))
			return fail(EINVAL);
		memcpy(&level, value, sizeof(level));
		if (level < BT_SECURITY_LOW || level > BT_SECURITY_FIPS)
			return fail(EINVAL);
		sock->request.security = level;
		return 0;
	case BT_RCVMTU:
		if (sock->state == STATE_OPEN || len < sizeof(sock->request.rcvmtu))
			return fail(EINVAL);
		if (sock->state == STATE_CONNECTED)
			return fail(EISCONN);
		memcpy(&sock->request.rcvmtu, value, sizeof(sock->request.rcvmtu));
		return 0;
	case BT_SNDMTU: /* the device decides */
		return fail(EPERM);
	default:
		return fail(ENOPROTOOPT);
	}
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct l2cap_socket *sock = find(fd);
	int r;

	if (sock && level == SOL_BLUETOOTH)
		return set_bluetooth(sock, name, value, len);
	r = NEXT(setsockopt)(fd, level, name, value, len);
	/* A larger buffer has room again. */
	if (sock && level == SOL_SOCKET && name == SO_SNDBUF && sock->state == STATE_CONNECTING)
		fill(fd);
	return r;
}
