/* What a test writes to a file descriptor, caught in a temporary file. */
#pragma once
#include "common/base/ensure.h"
#include "common/base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct capture {
    int fd, saved, file;
};

static inline struct capture capture_begin(int fd)
{
    char path[] = "/tmp/ropewalk-test-XXXXXX";
    struct capture c = {.fd = fd};

    fflush(stdout);
    c.saved = dup(fd);
    c.file = mkstemp(path);
    ENSURE(c.saved >= 0 && c.file >= 0 && unlink(path) == 0 && dup2(c.file, fd) == fd);
    return c;
}

/* The text, which the caller frees with mem_free. */
static inline char *capture_end(struct capture *c)
{
    off_t len;
    char *text;

    fflush(stdout);
    ENSURE(dup2(c->saved, c->fd) == c->fd);
    len = lseek(c->file, 0, SEEK_END);
    text = mem_alloc((size_t)len + 1);
    ENSURE(pread(c->file, text, (size_t)len, 0) == (ssize_t)len);
    close(c->file);
    close(c->saved);
    return text;
}
