package main

import (
	"path/filepath"
	"time"
)

// component is one process of the control plane or of the node.
type component struct {
	name string
	argv []string
	// ready says how it tells that it is: by sd_notify, or by a line of its output. Neither: nobody waits for it.
	notifies bool
	says     string
	// after runs when it is ready, before the next one starts.
	after func(*supervisor) error
}

const startLimit = 2 * time.Minute

// components are in the order of starting. Flags are those that kubeadm writes, but for: etcd without TLS (nobody else is in
// its network), no leader election (there is never a second one) and no fsync.
func components(p place) []component {
	pki := func(name string) string { return p.in("pki", name) }
	kubeconfig := func(name string) string { return p.in(name + ".conf") }
	kubernetes := p.kubernetes()
	return []component{
		{
			name:     "etcd",
			notifies: true,
			argv: []string{
				"etcd", "--data-dir", p.in("etcd"), "--unsafe-no-fsync",
				"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
				"--listen-peer-urls", "http://127.0.0.1:2380",
			},
		},
		{
			name:     "kube-apiserver",
			notifies: true,
			argv: []string{
				kubernetes, "kube-apiserver",
				"--advertise-address=" + p.nodeAddress(), "--secure-port=6443", "--allow-privileged=true",
				"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
				"--enable-bootstrap-token-auth=true", "--client-ca-file=" + pki("ca.crt"),
				"--etcd-servers=http://127.0.0.1:2379",
				"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
				"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
				"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
				"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
				"--proxy-client-key-file=" + pki("front-proxy-client.key"),
				"--requestheader-allowed-names=front-proxy-client",
				"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
				"--requestheader-extra-headers-prefix=X-Remote-Extra-",
				"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
				"--service-account-issuer=https://kubernetes.default.svc." + domain,
				"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
				"--service-cluster-ip-range=" + serviceRange,
				"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			},
			after: (*supervisor).applyManifests,
		},
		{
			name: "kube-controller-manager",
			argv: []string{
				kubernetes, "kube-controller-manager",
				"--allocate-node-cidrs=true", "--bind-address=127.0.0.1", "--cluster-cidr=" + podRange,
				"--authentication-kubeconfig=" + kubeconfig("controller-manager"),
				"--authorization-kubeconfig=" + kubeconfig("controller-manager"),
				"--kubeconfig=" + kubeconfig("controller-manager"), "--client-ca-file=" + pki("ca.crt"),
				"--cluster-name=" + p.name, "--cluster-signing-cert-file=" + pki("ca.crt"),
				"--cluster-signing-key-file=" + pki("ca.key"), "--controllers=*,bootstrapsigner,tokencleaner",
				"--leader-elect=false", "--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
				"--root-ca-file=" + pki("ca.crt"), "--service-account-private-key-file=" + pki("sa.key"),
				"--service-cluster-ip-range=" + serviceRange, "--use-service-account-credentials=true",
			},
		},
		{
			name: "kube-scheduler",
			argv: []string{
				kubernetes, "kube-scheduler",
				"--authentication-kubeconfig=" + kubeconfig("scheduler"),
				"--authorization-kubeconfig=" + kubeconfig("scheduler"),
				"--kubeconfig=" + kubeconfig("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false",
			},
		},
		{
			name:     "containerd",
			notifies: true,
			argv:     []string{"containerd", "--config", p.in("containerd.toml")},
			after:    (*supervisor).importPause,
		},
		{
			name:     "kubelet",
			notifies: true,
			argv: []string{
				kubernetes, "kubelet", "--kubeconfig=" + kubeconfig("kubelet"), "--config=" + p.in("kubelet.yaml"),
				"--root-dir=" + p.in("kubelet"), "--node-ip=" + p.nodeAddress(), "--hostname-override=" + p.name,
			},
		},
		{
			name: "kube-proxy",
			argv: []string{kubernetes, "kube-proxy", "--config=" + p.in("kube-proxy.yaml")},
		},
		{
			name: "coredns",
			argv: []string{kubernetes, "coredns", "-conf", p.in("Corefile")},
			// Printed once it listens, which it does once it has read services and endpoints.
			says: "CoreDNS-",
		},
		{
			name: "local-path",
			argv: []string{
				kubernetes, "local-path", "-kubeconfig", kubeconfig("local-path"), "-provisioner", provisioner,
				"-directory", filepath.Join(p.directory, "volumes"),
			},
		},
	}
}

// users are who has a kubeconfig beside those that kubeadm makes by itself.
var users = map[string]string{
	"kube-proxy": "system:kube-proxy",
	"coredns":    "system:coredns",
	"local-path": "local-path-provisioner",
}
