/* The guest, once its environment is set up: checks, workloads, end.
 *
 * Options on the command line:
 *   workloads=a,b,c   only these, in this order
 *   checks=no         only workloads
 *   debug-exit=PORT   (HVM) where to write 0, or 1 for a failure, at the end; without it the guest halts
 */
#include "checks.h"
#include "env.h"
#include "options.h"
#include "pages.h"
#include "panic.h"
#include "print.h"
#include "process.h"
#include "string.h"
#include "workloads.h"
#include "x86.h"

/* The linker scripts. */
extern const char image_start[], image_end[];

const char *option(const char *name)
{
    size_t length = strlen(name);
    for (const char *word = env_command_line(); *word; word++) {
        if (memcmp(word, name, length) == 0 && word[length] == '=')
            return word + length + 1;
        while (*word && *word != ' ')
            word++;
        if (!*word)
            break;
    }
    return NULL;
}

void panic(const char *why)
{
    print("panic: %s\n", why);
    env_exit(false);
}

/* Touches the whole image, so that no workload pays for a page's first touch under nested paging. */
static void touch_image(void)
{
    for (const char *page = image_start; page < image_end; page += PAGE_SIZE)
        *(const volatile char *)page;
}

void guest_main(void)
{
    touch_image();
    print("guest %s booted by %s, %U bytes of memory\n", env_name, env_boot_protocol(), env_memory_bytes());
    pages_init();
    processes_init();

    const char *checks = option("checks");
    unsigned failed = checks && memcmp(checks, "no", 2) == 0 ? 0 : run_checks();
    unsigned unknown = run_workloads(option("workloads"));
    if (unknown)
        print("%u unknown workloads\n", unknown);
    print("guest %s done, %u checks failed\n", env_name, failed);
    env_exit(failed == 0 && unknown == 0);
}
