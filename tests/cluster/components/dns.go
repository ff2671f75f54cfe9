package main

import (
	"github.com/coredns/coredns/coremain"

	// What the Corefile names (see ../node/dns.go).
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
)

// CoreDNS, in the version that kubeadm installs beside this Kubernetes.
func coreDNS() { coremain.Run() }
