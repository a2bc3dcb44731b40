package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Busybox builds busybox from the distribution's source package, in dir, and gives the path
// of the static program; one that was built before is used again.
//
// The distribution's own build does not do: its shell prefers its applets to the programs
// of an image, and it drops environment variables whose names are no identifiers, which
// specs read. The image upstream uses is built with busybox's default configuration, as here.
func Busybox(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "busybox")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := buildBusybox(ctx, dir, program); err != nil {
		return "", fmt.Errorf("build busybox: %w", err)
	}
	return program, nil
}

func buildBusybox(ctx context.Context, dir, program string) error {
	work := filepath.Join(dir, "work")
	lists := filepath.Join(work, "lists")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(filepath.Join(lists, "partial"), 0o755)); err != nil {
		return err
	}
	// Lists of our own: those of the machine stay as they are.
	sources := filepath.Join(work, "sources.list")
	const line = "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
	if err := os.WriteFile(sources, []byte(line), 0o644); err != nil {
		return err
	}
	apt := []string{"-o", "Dir::Etc::sourcelist=" + sources, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + lists, "-o", "Dir::Cache=" + work, "-o", "APT::Sandbox::User=root"}
	for _, step := range [][]string{{"update"}, {"source", "--download-only", "busybox"}} {
		if _, err := command(ctx, work, "apt-get", append(apt, step...)...); err != nil {
			return err
		}
	}
	archives, err := filepath.Glob(filepath.Join(work, "busybox_*.orig.tar.*"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("one source archive expected, got %v (%w)", archives, err)
	}
	if _, err := command(ctx, work, "tar", "--extract", "--strip-components=1", "--one-top-level=src", "--file", archives[0]); err != nil {
		return err
	}
	if err := makeBusybox(ctx, filepath.Join(work, "src")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "src", "busybox"), program); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func makeBusybox(ctx context.Context, src string) error {
	if _, err := command(ctx, src, "make", "defconfig"); err != nil {
		return err
	}
	file := filepath.Join(src, ".config")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	config := strings.NewReplacer(
		"# CONFIG_STATIC is not set", "CONFIG_STATIC=y",
		"CONFIG_TC=y", "# CONFIG_TC is not set", // does not compile with today's kernel headers
		"CONFIG_FEATURE_TC_INGRESS=y", "# CONFIG_FEATURE_TC_INGRESS is not set",
	).Replace(string(raw))
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	_, err = command(ctx, src, "make", "-j2", "busybox")
	return err
}

// applets puts busybox into a root, with a link for each of its names in bin.
func applets(ctx context.Context, r Root, busybox string) error {
	list, err := command(ctx, "/", busybox, "--list")
	if err != nil {
		return err
	}
	r.Copy("bin/busybox", 0o755, busybox)
	for name := range strings.Lines(list) {
		if name = strings.TrimSpace(name); name != "busybox" {
			r.Link("bin/"+name, "busybox")
		}
	}
	return nil
}
