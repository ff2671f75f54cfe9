//! The sandbox against the real kernel: as whoever runs the tests, and, when that is root, also as an ordinary user.

mod pods;
mod rig;
