/* export.h: what libmbplugin.so shows to plugins. It is compiled with -fvisibility=hidden; what carries this mark is its interface. */
#ifndef MBL_EXPORT_H
#define MBL_EXPORT_H

#define MBL_EXPORT __attribute__((visibility("default")))

#endif
