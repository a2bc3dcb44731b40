package seal

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// configuration is EncryptionConfiguration of apiserver.config.k8s.io/v1.
type configuration struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []resourceConfig `json:"resources"`
}

type resourceConfig struct {
	Resources []string         `json:"resources"`
	Providers []providerConfig `json:"providers"`
}

type providerConfig struct {
	AESGCM    *keysConfig `json:"aesgcm,omitempty"`
	AESCBC    *keysConfig `json:"aescbc,omitempty"`
	Secretbox *keysConfig `json:"secretbox,omitempty"`
	Identity  *struct{}   `json:"identity,omitempty"`
	KMS       *kmsConfig  `json:"kms,omitempty"`
}

type keysConfig struct {
	Keys []keyConfig `json:"keys"`
}

type keyConfig struct {
	Name   string `json:"name"`
	Secret string `json:"secret"` // base64
}

type kmsConfig struct {
	APIVersion string           `json:"apiVersion,omitempty"`
	Name       string           `json:"name"`
	CacheSize  *int32           `json:"cachesize,omitempty"`
	Endpoint   string           `json:"endpoint"`
	Timeout    *metav1.Duration `json:"timeout,omitempty"`
}

const (
	group = "apiserver.config.k8s.io/v1"
	kind  = "EncryptionConfiguration"
)

// Load reads a configuration file of the user's.
func Load(file string) (*Keys, error) {
	rules, err := read(file)
	if err != nil {
		return nil, err
	}
	return &Keys{rules: rules, changed: make(chan struct{}, 1)}, nil
}

func read(file string) ([]rule, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the keys that seal objects: %w", err)
	}
	c, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("encryption configuration %s: %w", file, err)
	}
	rules, err := c.rules()
	if err != nil {
		return nil, fmt.Errorf("encryption configuration %s: %w", file, err)
	}
	return rules, nil
}

// parse reads and checks a configuration. Errors never show a secret.
func parse(raw []byte) (*configuration, error) {
	c := &configuration{}
	if err := yaml.UnmarshalStrict(raw, c); err != nil {
		return nil, err
	}
	legacy := c.Kind == "EncryptionConfig" && c.APIVersion == "v1"
	if !legacy && (c.Kind != kind || c.APIVersion != group) {
		return nil, fmt.Errorf("is %q of %q: must be %s of %s", c.Kind, c.APIVersion, kind, group)
	}
	if errs := validate(c); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return c, nil
}

// rules makes the providers of a checked configuration.
func (c *configuration) rules() ([]rule, error) {
	var out []rule
	for _, entry := range c.Resources {
		var r rule
		for _, name := range entry.Resources {
			r.resources = append(r.resources, schema.ParseGroupResource(name))
		}
		for _, p := range entry.Providers {
			made, err := p.providers()
			if err != nil {
				return nil, err
			}
			r.providers = append(r.providers, made...)
		}
		out = append(out, r)
	}
	return out, nil
}

// providers are one for each key.
func (p *providerConfig) providers() ([]provider, error) {
	switch {
	case p.AESGCM != nil:
		return keyedProviders("aesgcm", p.AESGCM.Keys, newGCM)
	case p.AESCBC != nil:
		return keyedProviders("aescbc", p.AESCBC.Keys, newCBC)
	case p.Secretbox != nil:
		return keyedProviders("secretbox", p.Secretbox.Keys, newSecretbox)
	case p.KMS != nil:
		k, err := newKMS(p.KMS)
		if err != nil {
			return nil, err
		}
		return []provider{k}, nil
	}
	return []provider{identity{}}, nil
}

func keyedProviders(how string, keys []keyConfig, make func([]byte) (box, error)) ([]provider, error) {
	var out []provider
	for _, k := range keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("key %q: not base64", k.Name)
		}
		b, err := make(secret)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.Name, err)
		}
		out = append(out, &keyed{start: "k8s:enc:" + how + ":v1:" + k.Name + ":", box: b})
	}
	return out, nil
}

// overlaps tells whether of two resources one list names both where the later means nothing.
func overlaps(names []string) (duplicate, overlap bool) {
	every := schema.GroupResource{Group: "*", Resource: "*"}
	for i, a := range names {
		for j, b := range names {
			one, other := schema.ParseGroupResource(a), schema.ParseGroupResource(b)
			switch {
			case i == j:
			case one == other:
				duplicate = true
			case one == every, one.Group == other.Group && (one.Resource == "*" || other.Resource == "*"):
				overlap = true
			}
		}
	}
	return duplicate, overlap
}

// notStored are etcd folders that are no resources.
var notStored = []string{"apiserveripinfo", "serviceipallocations", "servicenodeportallocations"}

// resourceProblem says what is wrong with a resource's name, "" when nothing is.
func resourceProblem(name string) string {
	gr := schema.ParseGroupResource(name)
	switch {
	case strings.ToLower(name) != name:
		return "resource name should not contain capital letters"
	case name == "*":
		return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
	case slices.Contains(notStored, name):
		return "resources which do not have REST API/s cannot be encrypted"
	case gr.Group == "events.k8s.io":
		return "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
	case gr.Group == "extensions":
		return "'extensions' group has been removed and cannot be used for encryption"
	case gr.Group == "*" && gr.Resource != "*":
		return "encrypting the same resource across groups is not supported"
	}
	return ""
}
