//! The schemas of the built-in kinds: field checking on writes, merge keys for patches, and OpenAPI documents.
