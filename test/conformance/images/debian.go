package images

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Packages is what some packages of the distribution hold, with all they depend on.
type Packages struct {
	dir   string            // unpacked
	files map[string]string // by base name, of those that may be shared libraries: the path below dir
}

// FetchPackages gets packages and their dependencies with apt-get and unpacks them below
// dir; nothing is installed. What was fetched before is used again.
func FetchPackages(ctx context.Context, dir string, names ...string) (*Packages, error) {
	p := &Packages{dir: filepath.Join(dir, "root"), files: map[string]string{}}
	stamp, wanted := filepath.Join(dir, "packages"), strings.Join(names, " ")
	if had, err := os.ReadFile(stamp); err != nil || string(had) != wanted {
		if err := p.fetch(ctx, dir, names); err != nil {
			return nil, fmt.Errorf("fetch packages %s: %w", wanted, err)
		}
		if err := os.WriteFile(stamp, []byte(wanted), 0o644); err != nil {
			return nil, err
		}
	}
	err := filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".so") {
			return err
		}
		if _, there := p.files[d.Name()]; !there || d.Type().IsRegular() { // links may lead out of dir
			p.files[d.Name()] = name
		}
		return nil
	})
	return p, err
}

func (p *Packages) fetch(ctx context.Context, dir string, names []string) error {
	debs := filepath.Join(dir, "debs")
	if err := errors.Join(os.RemoveAll(p.dir), os.RemoveAll(debs), os.MkdirAll(p.dir, 0o755), os.MkdirAll(debs, 0o755)); err != nil {
		return err
	}
	// With an empty status file apt counts nothing as installed: the list is complete.
	none := filepath.Join(dir, "status")
	if err := os.WriteFile(none, nil, 0o644); err != nil {
		return err
	}
	plan, err := command(ctx, debs, "apt-get", append([]string{"--simulate", "--no-install-recommends",
		"-o", "Dir::State::status=" + none, "install"}, names...)...)
	if err != nil {
		return err
	}
	get := []string{"-o", "APT::Sandbox::User=root", "download"}
	for line := range strings.Lines(plan) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Inst" {
			get = append(get, f[1])
		}
	}
	if _, err := command(ctx, debs, "apt-get", get...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range files {
		if _, err := command(ctx, debs, "dpkg-deb", "--extract", deb, p.dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(debs)
}

// command runs a program and gives its output; on failure the error has what it said.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return out.String(), nil
}

// Program puts a program of the packages into a root under the given name, with the shared
// libraries it needs.
func (p *Packages) Program(r Root, name, from string) error {
	file := filepath.Join(p.dir, from)
	r.Copy(name, 0o755, file)
	if err := p.libraries(r, file); err != nil {
		return fmt.Errorf("program %s: %w", from, err)
	}
	return nil
}

// libraries follows what an ELF file asks for.
func (p *Packages) libraries(r Root, file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	wanted, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if loader := interpreter(f); loader != "" {
		r.Copy(strings.TrimPrefix(loader, "/"), 0o755, p.files[path.Base(loader)])
	}
	for _, lib := range wanted {
		found, there := p.files[lib]
		if !there {
			return fmt.Errorf("library %s is in none of the packages", lib)
		}
		real, err := filepath.EvalSymlinks(found)
		if err != nil {
			return err
		}
		name := "usr/lib/" + lib
		if _, done := r[name]; done {
			continue
		}
		r.Copy(name, 0o755, real)
		if err := p.libraries(r, real); err != nil {
			return err
		}
	}
	return nil
}

// interpreter is the path of the dynamic loader; empty for a static program.
func interpreter(f *elf.File) string {
	s := f.Section(".interp")
	if s == nil {
		return ""
	}
	raw, err := s.Data()
	if err != nil {
		return ""
	}
	return string(bytes.TrimRight(raw, "\x00"))
}
