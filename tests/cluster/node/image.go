package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// archive is an image of one layer in the form of `docker save`, which every loader reads.
type archive struct {
	name       string
	entrypoint []string
}

// image writes an image from scratch: the given programs and directories, and the shared libraries that the programs need.
func image(arguments []string) error {
	var archive archive
	var output string
	var files [][2]string
	for len(arguments) >= 2 {
		flag, value := arguments[0], arguments[1]
		arguments = arguments[2:]
		switch flag {
		case "--name":
			archive.name = value
		case "--output":
			output = value
		case "--entrypoint":
			archive.entrypoint = []string{value}
		case "--file":
			from, to, named := strings.Cut(value, "=")
			if !named {
				to = filepath.Join("/usr/bin", filepath.Base(from))
			}
			files = append(files, [2]string{from, to})
		default:
			return usageError(flag + " is no flag of image")
		}
	}
	if archive.name == "" || output == "" || len(arguments) > 0 {
		return usageError("image needs --name and --output")
	}
	return archive.write(output, func(layer *tar.Writer) error {
		added := map[string]bool{}
		for _, directory := range []string{"tmp", "etc", "root", "var", "run"} {
			mode := int64(0o755)
			if directory == "tmp" {
				mode = 0o1777
			}
			if err := layer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: directory + "/", Mode: mode}); err != nil {
				return err
			}
		}
		passwd := []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
		if err := addBytes(layer, passwd, "etc/passwd", 0o644); err != nil {
			return err
		}
		for _, file := range files {
			libraries, err := sharedLibraries(file[0])
			if err != nil {
				return err
			}
			if err := addFile(layer, file[0], strings.TrimPrefix(file[1], "/")); err != nil {
				return err
			}
			for _, library := range libraries {
				if !added[library] {
					added[library] = true
					if err := addFile(layer, library, strings.TrimPrefix(library, "/")); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// sharedLibraries are what the dynamic linker would load for a program, itself included.
func sharedLibraries(path string) ([]string, error) {
	program, err := elf.Open(path)
	var notElf *elf.FormatError
	if errors.As(err, &notElf) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer program.Close()
	if needed, err := program.ImportedLibraries(); err != nil || len(needed) == 0 {
		return nil, err
	}
	listed, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", path, err)
	}
	var found []string
	for line := range strings.Lines(string(listed)) {
		// `name => path (address)`, or `path (address)` for the linker itself.
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "/") {
				found = append(found, word)
				break
			}
		}
	}
	return found, nil
}

func addFile(layer *tar.Writer, from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return addBytes(layer, content, to, int64(info.Mode().Perm()))
}

func addBytes(archive *tar.Writer, content []byte, name string, mode int64) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: mode}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}

func (a archive) write(output string, fill func(*tar.Writer) error) error {
	var content bytes.Buffer
	layer := tar.NewWriter(&content)
	if err := fill(layer); err != nil {
		return err
	}
	if err := layer.Close(); err != nil {
		return err
	}
	digest := sha256.Sum256(content.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": a.entrypoint, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(digest[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{a.name}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return err
	}
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer file.Close()
	whole := tar.NewWriter(file)
	for _, part := range []struct {
		name    string
		content []byte
	}{{"layer.tar", content.Bytes()}, {"config.json", config}, {"manifest.json", manifest}} {
		if err := addBytes(whole, part.content, part.name, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(whole.Close(), file.Close())
}

// importImages makes images of `image` known to the node.
func importImages(p place, files []string) error {
	for _, file := range files {
		ctr := exec.Command(filepath.Join(p.programs, "debian/usr/bin/ctr"), "--address", p.in("containerd.sock"), "-n", "k8s.io", "images", "import", file)
		ctr.Stdout, ctr.Stderr = io.Discard, os.Stderr
		if err := ctr.Run(); err != nil {
			return fmt.Errorf("importing %s: %w", file, err)
		}
	}
	return nil
}
