//! A Kubernetes-compatible cluster inside envctl, for one machine and one session.
//!
//! Three rooms, each of which could be swapped for the real component: [`apiserver`] alone owns
//! storage, [`controllers`] and [`kubelet`] take a `kube::Client`. Only this file may name all three.

pub mod apiserver;
pub mod controllers;
pub mod kubelet;
