package images

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
)

// File is one file, folder or symbolic link of an image built here.
type File struct {
	Path string // in the image, "bin/web"; missing parents are made, mode 0755, root's
	Data []byte // of a file
	Link string // target of a symbolic link
	Dir  bool   // a folder
	Mode int64  // default 0644, folders 0755
	UID  int
	GID  int
}

// Spec describes an image of one layer.
type Spec struct {
	Ref          string // "proa.local/demo:v1"; required
	Files        []File
	Entrypoint   []string
	Cmd          []string
	Env          []string
	User         string
	WorkingDir   string
	ExposedPorts []string // "8080/tcp"
	Labels       map[string]string
	Architecture string // default this machine's
}

// epoch is the creation time of every image built here: equal content, equal digest.
const epoch = "1970-01-01T00:00:00Z"

// Build writes the image as a docker archive: the same bytes for the same spec, always.
func Build(w io.Writer, spec Spec) error { return BuildAll(w, []Spec{spec}) }

// BuildAll writes several images as one archive, each layer once.
func BuildAll(w io.Writer, specs []Spec) error {
	out := tar.NewWriter(w)
	written := map[string]bool{}
	var manifest []map[string]any
	for _, spec := range specs {
		if spec.Ref == "" {
			return errors.New("build image: no reference given")
		}
		layer, err := layerTar(spec.Files)
		if err != nil {
			return fmt.Errorf("build image %s: %w", spec.Ref, err)
		}
		layerSum := sum(layer)
		config, err := json.Marshal(spec.config(layerSum))
		if err != nil {
			return fmt.Errorf("build image %s: %w", spec.Ref, err)
		}
		configName, layerName := sum(config)+".json", layerSum+".tar"
		for _, part := range []File{{Path: layerName, Data: layer}, {Path: configName, Data: config}} {
			if written[part.Path] {
				continue
			}
			written[part.Path] = true
			if err := writeFile(out, part); err != nil {
				return fmt.Errorf("build image %s: %w", spec.Ref, err)
			}
		}
		manifest = append(manifest, map[string]any{"Config": configName, "RepoTags": []string{spec.Ref}, "Layers": []string{layerName}})
	}
	data, err := json.Marshal(manifest)
	if err == nil {
		err = writeFile(out, File{Path: "manifest.json", Data: data})
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("build image archive: %w", err)
	}
	return nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// config is the image's configuration as the OCI image specification has it.
func (s Spec) config(layerSum string) map[string]any {
	ports := map[string]struct{}{}
	for _, p := range s.ExposedPorts {
		ports[p] = struct{}{}
	}
	return map[string]any{
		"created":      epoch,
		"architecture": cmp.Or(s.Architecture, runtime.GOARCH),
		"os":           "linux",
		"config": map[string]any{
			"Entrypoint": s.Entrypoint, "Cmd": s.Cmd, "Env": s.Env, "User": s.User,
			"WorkingDir": s.WorkingDir, "ExposedPorts": ports, "Labels": s.Labels,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerSum}},
		"history": []map[string]any{{"created": epoch, "created_by": "proa"}},
	}
}

// layerTar writes files, and the folders above them, sorted by path.
func layerTar(files []File) ([]byte, error) {
	all := map[string]File{}
	for _, f := range files {
		f.Path = strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		if f.Path == "" {
			return nil, errors.New("a file has no path")
		}
		if _, twice := all[f.Path]; twice {
			return nil, fmt.Errorf("%s is given twice", f.Path)
		}
		all[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(path.Clean("/" + f.Path)); dir != "/"; dir = path.Dir(dir) {
			name := strings.TrimPrefix(dir, "/")
			if _, there := all[name]; !there {
				all[name] = File{Path: name, Dir: true}
			}
		}
	}
	sorted := make([]File, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	for _, f := range sorted {
		if err := writeFile(out, f); err != nil {
			return nil, err
		}
	}
	err := out.Close()
	return buf.Bytes(), err
}

func writeFile(out *tar.Writer, f File) error {
	header := &tar.Header{Name: f.Path, Mode: cmp.Or(f.Mode, 0o644), Uid: f.UID, Gid: f.GID, Typeflag: tar.TypeReg, Size: int64(len(f.Data))}
	switch {
	case f.Dir:
		header.Name, header.Typeflag, header.Mode, header.Size = f.Path+"/", tar.TypeDir, cmp.Or(f.Mode, 0o755), 0
	case f.Link != "":
		header.Typeflag, header.Linkname, header.Mode, header.Size = tar.TypeSymlink, f.Link, 0o777, 0
	}
	if err := out.WriteHeader(header); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if header.Size == 0 {
		return nil
	}
	if _, err := out.Write(f.Data); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}
