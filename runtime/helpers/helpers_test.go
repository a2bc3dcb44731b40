package helpers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/zstd"
)

func fake(t *testing.T, content string) fstest.MapFS {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const other = "comes before"
	return fstest.MapFS{
		Packed: {Data: z.EncodeAll([]byte(other+content), nil)},
		Sums: {Data: fmt.Appendf(nil, "%x %d other\n%x %d tool\n",
			sha256.Sum256([]byte(other)), len(other), sha256.Sum256([]byte(content)), len(content))},
	}
}

func TestExtract(t *testing.T) {
	dir := t.TempDir()
	folder, err := extract(fake(t, "one"), dir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := extract(fake(t, "two"), dir)
	if err != nil || other == folder {
		t.Fatalf("a new version went to the same folder %s: %v", folder, err)
	}
	path := filepath.Join(folder, "tool")
	if err := os.WriteFile(path, []byte("damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := extract(fake(t, "one"), dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != "one" {
		t.Errorf("%q %v", data, err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestExtractRefuses(t *testing.T) {
	wrong := fake(t, "one")
	wrong[Packed] = fake(t, "two")[Packed]
	if _, err := extract(wrong, t.TempDir()); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("wrong content: %v", err)
	}
	outside := fake(t, "one")
	outside[Sums] = &fstest.MapFile{Data: []byte("00 3 ../tool\n")}
	if _, err := extract(outside, t.TempDir()); err == nil {
		t.Error("a name with a path was accepted")
	}
	if _, err := extract(fstest.MapFS{}, t.TempDir()); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("nothing built: %v", err)
	}
}
