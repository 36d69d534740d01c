/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_terminal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/ctl_utf8.h"
#include "agent/util.h"

#define ENTER	      "\033[?1049h\033[?25l" /* the alternate screen, no cursor */
#define LEAVE	      "\033[?25h\033[?1049l"
#define CLEAR	      "\033[H\033[2J"
#define TO_ROW	      "\033[%zu;1H"
#define CLEAR_LINE    "\033[K"
#define ROWS_LEAST    4
#define COLUMNS_LEAST 20

static void forget(struct ctl_terminal *terminal)
{
	for (size_t i = 0; i < terminal->n_lines; i++)
		free(terminal->lines[i]);
	free(terminal->lines);
	terminal->lines = NULL;
	terminal->n_lines = 0;
}

void ctl_terminal_resize(struct ctl_terminal *terminal)
{
	struct winsize size = {0};

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	terminal->rows = size.ws_row ? MAX(size.ws_row, ROWS_LEAST) : 24;
	terminal->columns = size.ws_col ? MAX(size.ws_col, COLUMNS_LEAST) : 80;
	forget(terminal);
	terminal->lines = calloc(terminal->rows, sizeof(*terminal->lines));
	terminal->n_lines = terminal->lines ? terminal->rows : 0;
	fputs(CLEAR, stdout);
}

int ctl_terminal_open(struct ctl_terminal *terminal)
{
	const char *type = getenv("TERM");
	struct termios raw;

	*terminal = (struct ctl_terminal){0};
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || !type || strcmp(type, "dumb") == 0)
		return -ENOTTY;
	if (tcgetattr(STDIN_FILENO, &terminal->before) < 0)
		return -errno;
	raw = terminal->before;
	/* Ctrl-C and Ctrl-Z go on as signals. */
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
		return -errno;
	fputs(ENTER, stdout);
	ctl_terminal_resize(terminal);
	return 0;
}

void ctl_terminal_close(struct ctl_terminal *terminal)
{
	fputs(LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal->before);
	forget(terminal);
}

static void draw_line(struct ctl_terminal *terminal, size_t row, const char *text, size_t len)
{
	_cleanup_free_ char *line = strndup(text, len);

	if (!line)
		return;
	line[ctl_utf8_fit(line, terminal->columns)] = '\0';
	if (terminal->lines[row] && strcmp(terminal->lines[row], line) == 0)
		return;
	printf(TO_ROW "%s", row + 1, line);
	/* At the right edge the cursor would still be on the last character. */
	if (ctl_utf8_fit(line, terminal->columns - 1) == strlen(line))
		fputs(CLEAR_LINE, stdout);
	free(terminal->lines[row]);
	terminal->lines[row] = TAKE_PTR(line);
}

void ctl_terminal_draw(struct ctl_terminal *terminal, const char *text)
{
	size_t n = 0;

	for (const char *p = text; *p; p++)
		n += *p == '\n';
	for (size_t row = 0; row < terminal->n_lines; row++) {
		size_t len = strcspn(text, "\n");

		/* Too many: what comes before the last one is left out. */
		while (n > terminal->n_lines && row + 1 == terminal->n_lines) {
			text += len + 1;
			len = strcspn(text, "\n");
			n--;
		}
		draw_line(terminal, row, text, len);
		text += len + (text[len] == '\n');
	}
	fflush(stdout);
}
