/* release.h: the plugin's commands. */
#ifndef RELEASE_RELEASE_H
#define RELEASE_RELEASE_H

#include <mbuild/plugin.h>

extern const struct mb_param command_releases_options[], command_verify_options[];
int command_releases(const struct mb_host *host, struct mb_run *run, int argc, char **argv);
int command_verify(const struct mb_host *host, struct mb_run *run, int argc, char **argv);

#endif
