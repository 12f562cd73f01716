#include <sqlite3.h>

// SQLITE_TRANSIENT is a cast of -1 to a function pointer, which Swift does not see.
static inline sqlite3_destructor_type martlet_sqlite_transient(void) { return SQLITE_TRANSIENT; }

// sqlite3_db_config and sqlite3_config are variadic.
static inline int martlet_sqlite_db_config_flag(sqlite3 *db, int option, int on) {
  return sqlite3_db_config(db, option, on, (int *)0);
}
