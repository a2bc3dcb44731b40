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
	"slices"

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
	name, _, writes, err := k.Next()
	if err != nil {
		return "", err
	}
	return name, k.Take(writes)
}

// Next makes a new key and uses it for nothing yet. Servers that share data take reads first, with
// which it opens values, and when all of them have that, writes, with which it seals them. ErrOwn.
func (k *Keys) Next() (name string, reads, writes []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.configured()
	if err != nil {
		return "", nil, nil, err
	}
	key, err := newKey()
	if err != nil {
		return "", nil, nil, err
	}
	first := c.Resources[0].Providers[0].AESGCM
	known := slices.Clone(first.Keys)
	first.Keys = append(slices.Clone(known), key)
	if reads, err = yaml.Marshal(c); err != nil {
		return "", nil, nil, err
	}
	first.Keys = append([]keyConfig{key}, known...)
	writes, err = yaml.Marshal(c)
	return key.Name, reads, writes, err
}

// configured reads the file of keys that this package keeps; mu is held.
func (k *Keys) configured() (*configuration, error) {
	if k.file == "" {
		return nil, ErrOwn
	}
	raw, err := os.ReadFile(k.file)
	if err != nil {
		return nil, fmt.Errorf("read the keys that seal objects: %w", err)
	}
	c, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("encryption configuration %s: %w", k.file, err)
	}
	if c.Resources[0].Providers[0].AESGCM == nil {
		return nil, fmt.Errorf("%s: its first provider is not aesgcm any more: %w", k.file, ErrOwn)
	}
	return c, nil
}

// Take has the keys be those that Next gave, of this server or of another one with the same
// data. What lacks a key that is known here is refused: something may be sealed with it. ErrOwn.
func (k *Keys) Take(raw []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := k.configured()
	if err != nil {
		return err
	}
	c, err := parse(raw)
	if err != nil {
		return fmt.Errorf("take the keys that seal objects: %w", err)
	}
	rules, err := c.rules()
	if err != nil {
		return err
	}
	next := c.Resources[0].Providers[0].AESGCM
	if next == nil {
		return errors.New("take the keys that seal objects: the first provider is not aesgcm")
	}
	for _, key := range now.Resources[0].Providers[0].AESGCM.Keys {
		if !slices.Contains(next.Keys, key) {
			return fmt.Errorf("take the keys that seal objects: %s is missing", key.Name)
		}
	}
	if err := write(k.file, c); err != nil {
		return err
	}
	k.rules = rules
	for _, s := range k.sealers {
		if providers := providersOf(rules, s.resource); providers != nil {
			s.providers.Store(&providers)
		}
	}
	return nil
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
