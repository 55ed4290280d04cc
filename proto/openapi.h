/* The bytes of openapi.json, with workflow.v1.json put in where it refers to it. */
#pragma once
#include "common/base/str.h"

extern const struct str PROTO_OPENAPI;
