#include <hiredis/hiredis.h>

/* Releases of hiredis differ in these types: the elements of an array are an int before 1.0, and what came with
   RESP 3 is made by functions of its own since. */

#if HIREDIS_MAJOR >= 1
typedef size_t martlet_reply_count;

static inline void *martlet_refuse_double(const redisReadTask *task, double value, char *text, size_t length) {
  (void)task, (void)value, (void)text, (void)length;
  return NULL;
}

static inline void *martlet_refuse_bool(const redisReadTask *task, int value) {
  (void)task, (void)value;
  return NULL;
}
#else
typedef int martlet_reply_count;
#endif

/* What hiredis calls for each part of a reply; a part that RESP 2 has not ends the reading. */
static inline redisReplyObjectFunctions martlet_reply_functions(
    void *(*string)(const redisReadTask *, char *, size_t),
    void *(*array)(const redisReadTask *, martlet_reply_count),
    void *(*integer)(const redisReadTask *, long long), void *(*nil)(const redisReadTask *),
    void (*release)(void *)) {
  redisReplyObjectFunctions functions = {0};
  functions.createString = string;
  functions.createArray = array;
  functions.createInteger = integer;
  functions.createNil = nil;
  functions.freeObject = release;
#if HIREDIS_MAJOR >= 1
  functions.createDouble = martlet_refuse_double;
  functions.createBool = martlet_refuse_bool;
#endif
  return functions;
}
