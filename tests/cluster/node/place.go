package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// place says where a cluster lives. Two clusters on one machine differ in all of it.
type place struct {
	// Directory holds everything the cluster writes.
	directory string
	// number tells its addresses and its interface from other clusters'.
	number int
	// name is the node's, the kubeconfig context's and the cgroup's.
	name string
	// components are what runs, in the order of starting.
	components []string
	// programs is the cache's directory: Kubernetes and the unpacked packages.
	programs string
}

func placeFromEnvironment() (place, error) {
	p := place{
		directory: or(os.Getenv("ENVCTL_CLUSTER_DIR"), "/var/lib/envctl-cluster"),
		name:      or(os.Getenv("ENVCTL_CLUSTER_NAME"), "envctl-test"),
	}
	number, err := strconv.Atoi(or(os.Getenv("ENVCTL_CLUSTER_NUMBER"), "0"))
	if err != nil || number < 0 || number > 63 {
		return p, usageError("ENVCTL_CLUSTER_NUMBER is a number below 64")
	}
	p.number = number
	for _, component := range components(p) {
		p.components = append(p.components, component.name)
	}
	if only := os.Getenv("ENVCTL_CLUSTER_ONLY"); only != "" {
		p.components = strings.Split(only, ",")
	}
	if !filepath.IsAbs(p.directory) || p.directory == "/" {
		return p, usageError("ENVCTL_CLUSTER_DIR is an absolute path of its own")
	}
	program, err := os.Executable()
	if err != nil {
		return p, err
	}
	p.programs = filepath.Dir(program)
	return p, nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func (p place) in(parts ...string) string {
	return filepath.Join(append([]string{p.directory}, parts...)...)
}

// Addresses of the link between host and node: a /30 of its own for each cluster.
func (p place) hostAddress() string   { return fmt.Sprintf("172.31.255.%d", 4*p.number+1) }
func (p place) nodeAddress() string   { return fmt.Sprintf("172.31.255.%d", 4*p.number+2) }
func (p place) hostInterface() string { return fmt.Sprintf("envctl-k8s%d", p.number) }
func (p place) server() string        { return fmt.Sprintf("https://%s:6443", p.nodeAddress()) }
func (p place) cgroup() string        { return "/" + p.name }
func (p place) socket() string        { return p.in("node.sock") }
func (p place) kubeconfig() string    { return p.in("kubeconfig") }
func (p place) failed() string        { return p.directory + ".failed" }
func (p place) kubernetes() string    { return filepath.Join(p.programs, "kubernetes") }

func (p place) runs(component string) bool {
	for _, name := range p.components {
		if name == component {
			return true
		}
	}
	return false
}

// path is where the node's processes find programs: the packages before the machine's own.
func (p place) path() string {
	packages := filepath.Join(p.programs, "debian")
	return strings.Join([]string{
		filepath.Join(packages, "usr/bin"), filepath.Join(packages, "usr/sbin"),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
	}, ":")
}

const (
	podRange     = "10.244.0.0/16"
	nodePodRange = "10.244.0.0/24"
	serviceRange = "10.96.0.0/16" // as kind has it, and the embedded cluster
	dnsAddress   = "10.96.0.10"
	domain       = "cluster.local"
	pauseImage   = "envctl.test/pause:1"
	provisioner  = "envctl.test/local-path"
)
