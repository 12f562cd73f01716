#include <sqlite3.h>

// SQLITE_TRANSIENT and SQLITE_STATIC are casts of numbers to function pointers, which Swift does not see.
static inline sqlite3_destructor_type martlet_sqlite_static(void) { return SQLITE_STATIC; }

// sqlite3_config is variadic.
static inline int martlet_sqlite_disable_memory_statistics(void) {
  return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}
