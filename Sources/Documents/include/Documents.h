// What the server shows at /openapi.yaml and under /docs, as part of the binary.
#pragma once

#include <stddef.h>

/// One document: its name, as in the address, and its bytes. They live as long as the process.
struct martlet_document {
  const char *name;
  const unsigned char *bytes;
  size_t count;
};

/// The first of `martlet_document_count` of them.
extern const struct martlet_document *const martlet_documents;
extern const size_t martlet_document_count;
