/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/diagnosis.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mbedtls/base64.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "uplink/handshake.h"
#include "uplink/pin.h"

#define ANSWER_MAX 8192 /* bytes of a proxy's answer up to its empty line */
#define REASON_MAX 64 /* bytes shown of its reason */
#define LINGER_MS  2000 /* for a server of TLS 1.3 to refuse what is done already */

_Static_assert(HANDSHAKE_TEXT <= DIAGNOSIS_TEXT, "it is written there");

enum stage {
	STAGE_CONNECT,
	STAGE_PROXY,
	STAGE_TLS,
	STAGE_LINGER,
};

struct diagnosis {
	struct loop *loop; /* not owned */
	struct websocket_config config; /* what it points to is owned */
	struct websocket_target target; /* likewise */
	char *host; /* out of target.authority */
	enum stage stage;
	uint64_t stage_ms; /* monotonic, its begin */
	int fd; /* owned, -1: none */
	struct loop_fd watch;
	struct loop_timer timer; /* until the end, or until the result is told */
	uint64_t end_ms; /* monotonic */
	bool known; /* text is the result */
	struct handshake *handshake;
	uint8_t answer[ANSWER_MAX]; /* the proxy's */
	size_t answer_len;
	void (*on_done)(void *userdata, const char *text);
	void *userdata; /* not owned */
	enum failure_cause cause;
	char text[DIAGNOSIS_TEXT];
};

/* The caller returns at once: the object may be gone. */
static void finish(struct diagnosis *d)
{
	loop_timer_stop(&d->timer);
	loop_fd_remove(&d->watch);
	handshake_free(TAKE_PTR(d->handshake));
	util_closep(&d->fd);
	d->fd = -1;
	d->on_done(d->userdata, d->text);
}

static void _printf_(3, 4)
	finish_with(struct diagnosis *d, enum failure_cause cause, const char *format, ...)
{
	va_list args;

	d->cause = cause;
	va_start(args, format);
	vsnprintf(d->text, sizeof(d->text), format, args);
	va_end(args);
	finish(d);
}

static void set_stage(struct diagnosis *d, enum stage stage)
{
	d->stage = stage;
	d->stage_ms = util_now_ms();
}

static void connect_text(struct diagnosis *d, int error)
{
	d->cause = failure_of_errno(error);
	snprintf(d->text, sizeof(d->text), "%s%s",
		 d->target.proxy ? "the proxy cannot be reached: " : "", strerror(error));
}

static void continue_tls(struct diagnosis *d)
{
	uint64_t now_ms = util_now_ms();

	switch (handshake_step(d->handshake, d->text)) {
	case HANDSHAKE_READS:
		loop_fd_set(&d->watch, EPOLLIN);
		break;
	case HANDSHAKE_WRITES:
		loop_fd_set(&d->watch, EPOLLOUT);
		break;
	case HANDSHAKE_LINGERS:
		loop_fd_set(&d->watch, EPOLLIN);
		if (d->stage == STAGE_LINGER)
			break;
		set_stage(d, STAGE_LINGER);
		loop_timer_start(&d->timer,
				 MIN((uint64_t)LINGER_MS, d->end_ms - MIN(now_ms, d->end_ms)));
		break;
	case HANDSHAKE_OVER:
		d->cause = handshake_cause(d->handshake);
		finish(d);
		break;
	}
}

/* n_early: bytes of the server's that came with the proxy's answer, at its end. */
static void begin_tls(struct diagnosis *d, size_t n_early)
{
	set_stage(d, STAGE_TLS);
	if (handshake_new(&d->config, d->host, d->fd, d->answer + d->answer_len - n_early, n_early,
			  &d->handshake, d->text) < 0) {
		d->cause = FAILURE_FILES;
		finish(d);
	} else {
		continue_tls(d);
	}
}

/* Returns the length of the answer up to and with this end; 0: it is not there yet. */
static size_t head_len(const struct diagnosis *d, const char *end)
{
	const uint8_t *p = memmem(d->answer, d->answer_len, end, strlen(end));

	return p ? (size_t)(p - d->answer) + strlen(end) : 0;
}

/* "HTTP/1.1 407 Proxy Authentication Required": RFC 9112, section 4. Returns 0 for no such line. */
static unsigned parse_status(const uint8_t *line, size_t len, char ret_reason[REASON_MAX])
{
	char text[REASON_MAX + sizeof("HTTP/1.1 407 ")], digits[4] = "";
	int at = 0;

	snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text)), line);
	text[strcspn(text, "\r\n")] = '\0';
	if (sscanf(text, "HTTP/1.%*1[0-9] %3[0-9]%n", digits, &at) != 1 || strlen(digits) != 3 ||
	    (text[at] && text[at] != ' '))
		return 0;
	for (char *p = text; *p; p++) {
		if (!isprint((unsigned char)*p))
			*p = '?';
	}
	snprintf(ret_reason, REASON_MAX, "%s", text + at);
	return (unsigned)atoi(digits);
}

static void finish_refused(struct diagnosis *d, unsigned status, const char *reason)
{
	enum failure_cause cause = failure_of_proxy(status);
	bool unknown = cause == FAILURE_PROXY_USER;
	const char *hint = "";

	if (unknown && d->target.proxy_credentials)
		hint = ": check the user and password of uplink.proxy";
	else if (unknown)
		hint = ": it wants a user and a password in uplink.proxy";
	finish_with(d, cause, "the proxy refuses the tunnel: HTTP %u%s%s", status, reason, hint);
}

/* A refusal is known by its first line, the tunnel begins behind the empty one. */
static void read_answer(struct diagnosis *d)
{
	char reason[REASON_MAX];
	size_t len = head_len(d, "\n");
	unsigned status;

	if (len == 0 && d->answer_len < sizeof(d->answer))
		return;
	status = parse_status(d->answer, len, reason);
	if (status == 0) {
		finish_with(d, FAILURE_NO_PROXY, "the proxy does not speak HTTP");
		return;
	}
	if (status / 100 != 2) {
		finish_refused(d, status, reason);
		return;
	}
	len = head_len(d, "\r\n\r\n");
	if (len > 0)
		begin_tls(d, d->answer_len - len);
	else if (d->answer_len == sizeof(d->answer))
		finish_with(d, FAILURE_NO_PROXY, "the proxy's answer is too long");
}

static void continue_proxy(struct diagnosis *d)
{
	ssize_t n = recv(d->fd, d->answer + d->answer_len, sizeof(d->answer) - d->answer_len, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		d->answer_len += (size_t)n;
		read_answer(d);
	} else if (d->answer_len > 0) {
		finish_with(d, FAILURE_NO_PROXY, "the proxy does not speak HTTP");
	} else {
		finish_with(d, FAILURE_NO_PROXY, "the proxy does not answer: %s",
			    n < 0 ? strerror(errno) : "it closes the connection");
	}
}

/* Returns -errno if it cannot be sent: a first packet always fits the socket's buffer. */
static int send_connect(struct diagnosis *d)
{
	const char *credentials = d->target.proxy_credentials, *authority = d->target.authority;
	char basic[256] = "", request[1024];
	size_t len;
	int n;

	if (credentials &&
	    mbedtls_base64_encode((unsigned char *)basic, sizeof(basic), &len,
				  (const unsigned char *)credentials, strlen(credentials)) != 0)
		return -ENOBUFS;
	n = snprintf(request, sizeof(request), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n",
		     authority, authority, credentials ? "Proxy-Authorization: Basic " : "", basic,
		     credentials ? "\r\n" : "");
	if (n < (int)sizeof(request))
		n = send(d->fd, request, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -errno;
	else
		n = -ENOBUFS;
	explicit_bzero(basic, sizeof(basic));
	explicit_bzero(request, sizeof(request));
	return n;
}

static void begin_proxy(struct diagnosis *d)
{
	int r = send_connect(d);

	set_stage(d, STAGE_PROXY);
	if (r < 0)
		finish_with(d, FAILURE_NO_PROXY, "the proxy does not answer: %s", strerror(-r));
	else
		loop_fd_set(&d->watch, EPOLLIN);
}

static void finish_reset(struct diagnosis *d)
{
	set_stage(d, d->target.proxy ? STAGE_PROXY : STAGE_TLS);
	if (d->target.proxy)
		finish_with(d, FAILURE_NO_PROXY, "the proxy does not answer: %s",
			    strerror(ECONNRESET));
	else
		finish_with(d, FAILURE_TLS_FAILED, "%s in the TLS handshake", strerror(ECONNRESET));
}

static void on_connected(struct diagnosis *d)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == ECONNRESET) { /* by then it was connected: one that is not is refused */
		finish_reset(d);
	} else if (error != 0) {
		connect_text(d, error);
		finish(d);
	} else if (d->target.proxy) {
		begin_proxy(d);
	} else {
		begin_tls(d, 0);
	}
}

static void on_ready(void *userdata, uint32_t revents)
{
	struct diagnosis *d = userdata;

	(void)revents;
	switch (d->stage) {
	case STAGE_CONNECT:
		on_connected(d);
		break;
	case STAGE_PROXY:
		continue_proxy(d);
		break;
	case STAGE_TLS:
	case STAGE_LINGER:
		continue_tls(d);
		break;
	}
}

static void on_timeout(void *userdata)
{
	static const char *const waits[] = {
		[STAGE_CONNECT] = "no answer to the TCP connect",
		[STAGE_PROXY] = "the proxy does not answer: nothing",
		[STAGE_TLS] = "no answer in the TLS handshake",
	};
	struct diagnosis *d = userdata;
	uint64_t ms = util_now_ms() - d->stage_ms;

	if (d->known || d->stage == STAGE_LINGER)
		finish(d);
	else
		finish_with(d, d->stage == STAGE_PROXY ? FAILURE_NO_PROXY : FAILURE_SILENCE,
			    "%s in %u.%u s", waits[d->stage], (unsigned)(ms / 1000),
			    (unsigned)(ms % 1000 / 100));
}

/* Returns a socket that connects, or -errno. */
static int begin_connect(const char *address, uint16_t port)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, /* asks nobody */
		.ai_socktype = SOCK_STREAM,
	};
	_cleanup_close_ int fd = -1;
	struct addrinfo *info;
	char service[8];
	int r = 0;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &info) != 0)
		return -EINVAL;
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, info->ai_addr, info->ai_addrlen) < 0)
		r = -errno;
	freeaddrinfo(info);
	return r < 0 && r != -EINPROGRESS ? r : TAKE_FD(fd);
}

/* NULL where there is none. *r is -ENOMEM on failure and else untouched. */
static char *copy_text(const char *text, int *r)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		*r = -ENOMEM;
	return copy;
}

/* The host out of host:port or [v6]:port. */
static char *copy_host(const char *authority, int *r)
{
	bool v6 = *authority == '[';
	const char *end = v6 ? strchr(authority, ']') : strrchr(authority, ':');
	char *copy;

	authority += v6;
	copy = strndup(authority, end ? (size_t)(end - authority) : strlen(authority));
	if (!copy)
		*r = -ENOMEM;
	return copy;
}

static int copy_all(struct diagnosis *d, const struct websocket_config *config,
		    const struct websocket_target *target)
{
	struct pin *pins = calloc(config->n_pins + 1, sizeof(*pins));
	int r = pins ? 0 : -ENOMEM;

	if (pins && config->n_pins > 0)
		memcpy(pins, config->pins, config->n_pins * sizeof(*pins));
	d->config = (struct websocket_config){
		.ca_file = copy_text(config->ca_file, &r),
		.pins = pins,
		.n_pins = config->n_pins,
		.certificate_file = copy_text(config->certificate_file, &r),
		.key_file = copy_text(config->key_file, &r),
	};
	d->target = (struct websocket_target){
		.port = target->port,
		.proxy = target->proxy,
		.proxy_credentials = copy_text(target->proxy_credentials, &r),
		.authority = copy_text(target->authority, &r),
	};
	d->host = copy_host(target->authority, &r);
	return r;
}

/* What fails at once is told by the timer. */
static int begin(struct diagnosis *d, const char *address, uint32_t timeout_ms)
{
	d->fd = begin_connect(address, d->target.port);
	d->known = d->fd < 0;
	loop_timer_start(&d->timer, d->known ? 0 : timeout_ms);
	if (!d->known)
		return loop_fd_add(d->loop, &d->watch, d->fd, EPOLLOUT, on_ready, d);
	connect_text(d, -d->fd);
	d->fd = -1;
	return 0;
}

int diagnosis_start(struct loop *loop, const struct websocket_config *config,
		    const struct websocket_target *target, uint32_t timeout_ms,
		    void (*on_done)(void *userdata, const char *text), void *userdata,
		    struct diagnosis **ret)
{
	struct diagnosis *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct diagnosis){
		.loop = loop,
		.fd = -1,
		.on_done = on_done,
		.userdata = userdata,
		.end_ms = util_now_ms() + timeout_ms,
	};
	set_stage(d, STAGE_CONNECT);
	loop_timer_init(loop, &d->timer, on_timeout, d);
	r = copy_all(d, config, target);
	if (r == 0)
		r = begin(d, target->address, timeout_ms);
	if (r < 0) {
		diagnosis_cancel(d);
		return r;
	}
	*ret = d;
	return 0;
}

enum failure_cause diagnosis_cause(const struct diagnosis *d)
{
	return d->cause;
}

enum websocket_step diagnosis_step(const struct diagnosis *d)
{
	return d->stage == STAGE_CONNECT ? WEBSOCKET_STEP_TCP : WEBSOCKET_STEP_TLS;
}

void diagnosis_cancel(struct diagnosis *d)
{
	if (!d)
		return;
	loop_timer_stop(&d->timer);
	loop_fd_remove(&d->watch);
	handshake_free(d->handshake);
	util_closep(&d->fd);
	if (d->target.proxy_credentials)
		explicit_bzero((char *)d->target.proxy_credentials,
			       strlen(d->target.proxy_credentials));
	free((char *)d->target.proxy_credentials);
	free((char *)d->target.authority);
	free((char *)d->config.ca_file);
	free((struct pin *)d->config.pins);
	free((char *)d->config.certificate_file);
	free((char *)d->config.key_file);
	free(d->host);
	free(d);
}
