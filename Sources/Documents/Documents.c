// The pages come from scripts/pages. A change of one of these files builds this one again.
#include "Documents.h"

// #embed is of C23; clang has it in every C.
#pragma clang diagnostic ignored "-Wc23-extensions"

static const unsigned char openapi[] = {
#embed "../../openapi.yaml"
};
static const unsigned char style[] = {
#embed "pages/style.css"
};
static const unsigned char api[] = {
#embed "pages/api.html"
};
static const unsigned char relay[] = {
#embed "pages/relay-v1.html"
};
static const unsigned char nano[] = {
#embed "pages/nano.html"
};
static const unsigned char tokens[] = {
#embed "pages/tokens.html"
};
static const unsigned char rooms[] = {
#embed "pages/rooms-and-rules.html"
};
static const unsigned char teams[] = {
#embed "pages/teams.html"
};
static const unsigned char errors[] = {
#embed "pages/errors.html"
};
static const unsigned char glossary[] = {
#embed "pages/glossary.html"
};

static const struct martlet_document documents[] = {
    {"openapi.yaml", openapi, sizeof openapi},
    {"style.css", style, sizeof style},
    {"api.html", api, sizeof api},
    {"relay-v1.html", relay, sizeof relay},
    {"nano.html", nano, sizeof nano},
    {"tokens.html", tokens, sizeof tokens},
    {"rooms-and-rules.html", rooms, sizeof rooms},
    {"teams.html", teams, sizeof teams},
    {"errors.html", errors, sizeof errors},
    {"glossary.html", glossary, sizeof glossary},
};
const struct martlet_document *const martlet_documents = documents;
const size_t martlet_document_count = sizeof documents / sizeof *documents;
