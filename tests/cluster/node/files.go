package main

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeFiles makes certificates and kubeconfigs by kubeadm, and each component's configuration.
func (s *supervisor) writeFiles() error {
	p := s.place
	for name, content := range map[string]string{
		"kubeadm.yaml":    kubeadmConfig(p),
		"kubelet.yaml":    kubeletConfig(p),
		"kube-proxy.yaml": proxyConfig(p),
		"containerd.toml": containerdConfig(p),
		"Corefile":        corefile(p),
		"manifests.yaml":  manifests(p),
		"resolv.conf":     "# Nothing outside of the cluster has a name here.\n",
		"cni/10-envctl.conflist": fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "envctl", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": %q}]]}}]}
`, nodePodRange),
	} {
		path := p.in(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	config := "--config=" + p.in("kubeadm.yaml")
	kubeadm := func(words ...string) (string, error) {
		return s.output(append([]string{p.kubernetes(), "kubeadm"}, words...)...)
	}
	if _, err := kubeadm("init", "phase", "certs", "all", config); err != nil {
		return err
	}
	if _, err := kubeadm("init", "phase", "kubeconfig", "all", config, "--kubeconfig-dir", p.directory); err != nil {
		return err
	}
	for component, user := range users {
		text, err := kubeadm("kubeconfig", "user", config, "--client-name", user)
		if err == nil {
			err = os.WriteFile(p.in(component+".conf"), []byte(text[strings.Index(text, "apiVersion:"):]), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return s.writeKubeconfig()
}

// writeKubeconfig writes what people and tests use, with a context named like the cluster.
func (s *supervisor) writeKubeconfig() error {
	p := s.place
	text, err := os.ReadFile(p.in("super-admin.conf"))
	if err != nil {
		return err
	}
	user := "kubernetes-super-admin"
	config := strings.ReplaceAll(string(text), user+"@"+p.name, p.name)
	unfinished := p.kubeconfig() + ".new"
	if err := os.WriteFile(unfinished, []byte(config), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, p.kubeconfig())
}

// applyManifests makes the objects that aren't Kubernetes' own: the address of DNS, the storage class, what CoreDNS and the provisioner may do.
func (s *supervisor) applyManifests() error {
	// The API tells that it is ready before its last start hook has run: the hook that makes roles and namespaces is awaited.
	for _, object := range []string{"namespace/kube-system", "clusterrolebinding/system:node-proxier"} {
		if _, err := s.kubectl("wait", "--for=create", "--timeout=60s", object); err != nil {
			return err
		}
	}
	_, err := s.kubectl("apply", "--server-side", "-f", s.place.in("manifests.yaml"))
	return err
}

// importPause gives containerd the one image that Kubernetes itself needs: this program, under the name `pause`.
func (s *supervisor) importPause() error {
	file := s.place.in("pause.tar")
	program, err := os.Executable()
	if err != nil {
		return err
	}
	archive := archive{name: pauseImage, entrypoint: []string{"/pause"}}
	if err := archive.write(file, func(layer *tar.Writer) error {
		return addFile(layer, program, "pause")
	}); err != nil {
		return err
	}
	_, err = s.output("ctr", "--address", s.place.in("containerd.sock"), "-n", "k8s.io", "images", "import", file)
	return err
}

// awaitNode returns when pods can run: the node is Ready and namespace `default` has its service account.
func (s *supervisor) awaitNode() error {
	if !s.place.runs("kubelet") {
		return nil
	}
	node := "node/" + s.place.name
	for _, arguments := range [][]string{
		{"wait", "--for=create", "--timeout=120s", node},
		{"wait", "--for=condition=Ready", "--timeout=120s", node},
		{"wait", "--for=create", "--timeout=60s", "-n", "default", "serviceaccount/default"},
	} {
		if _, err := s.kubectl(arguments...); err != nil {
			return err
		}
	}
	return nil
}
