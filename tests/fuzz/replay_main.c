/* Runs a fuzz target over files and folders given as arguments: seeds and found crashes stay tests with any compiler.
 */
#include "common/base/ensure.h"
#include "common/base/mem.h"
#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static void replay_file(const char *path, size_t size)
{
    /* Exactly as large as the input, so that reading beyond it is found. */
    CLEANUP(mem_cleanup) uint8_t *data = mem_grow(NULL, size, 1);
    FILE *file = fopen(path, "rb");

    ENSURE(file != NULL && fread(data, 1, size, file) == size);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    replayed++;
}

static void replay(const char *path);

static void replay_folder(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);

    ENSURE(count >= 0);
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            char name[4096];
            int len = snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);

            ENSURE(len > 0 && (size_t)len < sizeof(name));
            replay(name);
        }
        free(entries[i]);
    }
    free(entries);
}

static void replay(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        perror(path);
        exit(2);
    }
    if (S_ISDIR(st.st_mode))
        replay_folder(path);
    else
        replay_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%u inputs replayed\n", replayed);
    return replayed == 0 ? 1 : 0;
}
