package main

import (
	"fmt"
	"path/filepath"
)

func kubeadmConfig(p place) string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %[1]s, bindPort: 6443}
nodeRegistration: {name: %[2]s, criSocket: "unix://%[3]s/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %[4]s
clusterName: %[2]s
certificatesDir: %[3]s/pki
encryptionAlgorithm: ECDSA-P256
apiServer: {certSANs: [localhost, 127.0.0.1]}
networking: {serviceSubnet: %[5]s, podSubnet: %[6]s, dnsDomain: %[7]s}
`, p.nodeAddress(), p.name, p.directory, version, serviceRange, podRange, domain)
}

// version is stamped by the build: that of the k8s.io/kubernetes module.
var version = "unknown"

func kubeletConfig(p place) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/pki/ca.crt}}
authorization: {mode: Webhook}
address: %[2]s
healthzPort: 0
clusterDomain: %[3]s
clusterDNS: [%[4]s]
resolvConf: %[1]s/resolv.conf
containerRuntimeEndpoint: unix://%[1]s/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %[5]s
# Machines with cgroups of version 1 are fine for tests.
failCgroupV1: false
failSwapOn: false
# Not the machine's own: a kubelet removes the logs of pods that it doesn't know, those of other clusters on the machine too.
podLogsDir: %[1]s/log/pods
# What the embedded cluster does (ARCHITECTURE.md, Decisions): a crash loop is one within seconds.
featureGates: {ReduceDefaultCrashLoopBackOffDecay: true}
# The machine is not the cluster's own: its full disk is no reason to evict pods (as kind does it).
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
`, p.directory, p.nodeAddress(), domain, dnsAddress, p.cgroup())
}

func proxyConfig(p place) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %s/kube-proxy.conf}
clusterCIDR: %s
hostnameOverride: %s
# Lowering it needs a capability that root has not everywhere; limits of conntrack are the whole machine's.
oomScoreAdj: 0
conntrack: {maxPerCore: 0}
`, p.directory, podRange, p.name)
}

func containerdConfig(p place) string {
	packages := filepath.Join(p.programs, "debian")
	return fmt.Sprintf(`version = 3
root = "%[1]s/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "%[1]s/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "%[3]s"

[plugins.'io.containerd.cri.v1.runtime']
  # Lowering a score needs CAP_SYS_RESOURCE, which root has not everywhere.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["%[2]s/usr/lib/cni"]
    conf_dir = "%[1]s/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "%[2]s/usr/sbin/runc"
      SystemdCgroup = false
`, p.directory, packages, pauseImage)
}

// corefile is kubeadm's without what a node without neighbours doesn't need: nobody scrapes it, reloads it or is forwarded to,
// and kubeadm's cache holds nothing of the cluster's own domain.
func corefile(p place) string {
	return fmt.Sprintf(`.:53 {
    bind %[1]s
    errors
    kubernetes %[2]s in-addr.arpa ip6.arpa {
        kubeconfig %[3]s/coredns.conf
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    loadbalance
}
`, p.nodeAddress(), domain, p.directory)
}

func manifests(p place) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: %[1]s
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
# CoreDNS is a process of the node, no pod: there is nothing to select.
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: ["%[2]s"], conditions: {ready: true}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:coredns"}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:coredns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[3]s}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: local-path-provisioner}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:persistent-volume-provisioner"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[4]s}]
---
# As kubeadm makes it: without it the API server may not ask the kubelet for logs, exec and port-forward.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:apiserver-kubelet-client"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: %[5]s
reclaimPolicy: Delete
volumeBindingMode: Immediate
`, dnsAddress, p.nodeAddress(), users["coredns"], users["local-path"], provisioner)
}
