/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A terminal of its own for a live screen: the alternate screen of ECMA-48 terminals (xterm and what is
 * like it), without echo. Only lines that changed are sent, as the line to a hub may be slow. There is
 * no terminfo: a hub mostly lacks the entry of whoever comes by ssh.
 */
#pragma once

#include <stddef.h>
#include <termios.h>

struct ctl_terminal {
	size_t rows, columns; /* as they are */
	char **lines; /* owned: what is shown, one a row */
	size_t n_lines;
	struct termios before;
};

/* Takes standard input and output. Returns 0, or -errno: -ENOTTY where they are no terminal, or one
 * that can only print. */
int ctl_terminal_open(struct ctl_terminal *terminal);
/* Gives it back as it was. */
void ctl_terminal_close(struct ctl_terminal *terminal);
/* Takes over its size, and forgets what is shown. */
void ctl_terminal_resize(struct ctl_terminal *terminal);
/* Shows lines of text, cut where they are too long, or too many: then the last of them is on the last
 * row. */
void ctl_terminal_draw(struct ctl_terminal *terminal, const char *text);
