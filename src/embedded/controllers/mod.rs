//! The controllers: each a pure `decide(observed) → actions` with a thin `act`, over a `kube::Client`.
