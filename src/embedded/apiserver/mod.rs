//! The API server: an axum `Router` over an in-memory store.
