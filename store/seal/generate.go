package seal

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// ErrOwn: the keys are in a file of the user's, which is his to change.
var ErrOwn = errors.New("the keys are in a configuration file of yours: put a new key first in it and start the server again")

const heading = `# The keys that seal secrets in etcd. Whoever has this file and the data can read them;
# without it they are lost. The first key writes, all of them read.
`

// Open reads the file of keys that this package keeps itself, and makes it, with a key,
// when it is not there: AES-GCM with 256 bits, for secrets.
func Open(file string) (*Keys, error) {
	rules, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = generate(file); err == nil {
			rules, err = read(file)
		}
	}
	if err != nil {
		return nil, err
	}
	return &Keys{file: file, rules: rules}, nil
}

func generate(file string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	return write(file, &configuration{
		TypeMeta: metav1.TypeMeta{APIVersion: group, Kind: kind},
		Resources: []resourceConfig{{
			Resources: []string{"secrets"},
			Providers: []providerConfig{{AESGCM: &keysConfig{Keys: []keyConfig{key}}}, {Identity: &struct{}{}}},
		}},
	})
}

// newKey has a name that no other key has: a file of keys that does not belong to the data
// is told from one that was changed.
func newKey() (keyConfig, error) {
	var id [4]byte
	var secret [32]byte
	if _, err := rand.Read(id[:]); err != nil {
		return keyConfig{}, fmt.Errorf("make a key: %w", err)
	}
	if _, err := rand.Read(secret[:]); err != nil {
		return keyConfig{}, fmt.Errorf("make a key: %w", err)
	}
	return keyConfig{Name: "key-" + hex.EncodeToString(id[:]), Secret: base64.StdEncoding.EncodeToString(secret[:])}, nil
}

// Rotate puts a new key before the others; from then on it writes. The others stay, for
// what they have sealed and for backups. ErrOwn.
func (k *Keys) Rotate() (name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == "" {
		return "", ErrOwn
	}
	raw, err := os.ReadFile(k.file)
	if err != nil {
		return "", fmt.Errorf("read the keys that seal objects: %w", err)
	}
	c, err := parse(raw)
	if err != nil {
		return "", fmt.Errorf("encryption configuration %s: %w", k.file, err)
	}
	key, err := newKey()
	if err != nil {
		return "", err
	}
	first := c.Resources[0].Providers[0].AESGCM
	if first == nil {
		return "", fmt.Errorf("%s: its first provider is not aesgcm any more: %w", k.file, ErrOwn)
	}
	first.Keys = append([]keyConfig{key}, first.Keys...)
	rules, err := c.rules()
	if err != nil {
		return "", err
	}
	if err := write(k.file, c); err != nil {
		return "", err
	}
	k.rules = rules
	for _, s := range k.sealers {
		if providers := providersOf(rules, s.resource); providers != nil {
			s.providers.Store(&providers)
		}
	}
	return key.Name, nil
}

// write replaces the file as a whole, readable by its owner alone, and syncs it with its
// folder: values sealed with a key that is lost are lost.
func write(file string, c *configuration) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	_, err = tmp.Write(append([]byte(heading), raw...))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
