package admission

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	psaconfig "k8s.io/pod-security-admission/admission/api"
	"k8s.io/pod-security-admission/admission/api/load"
	"k8s.io/pod-security-admission/admission/api/validation"
	"sigs.k8s.io/yaml"
)

// Settings of the steps that have some: what kube-apiserver reads from the file of
// --admission-control-config-file.
type Settings struct {
	PodSecurity   *psaconfig.PodSecurityConfiguration
	NodeSelectors map[string]labels.Set // of PodNodeSelector, by namespace
}

// maxSettings bounds a file of settings, in bytes.
const maxSettings = 1 << 20

// configuration is an AdmissionConfiguration of apiserver.config.k8s.io/v1.
type configuration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Plugins    []struct {
		Name          string                `json:"name"`
		Path          string                `json:"path"`
		Configuration *runtime.RawExtension `json:"configuration"`
	} `json:"plugins"`
}

// ReadSettings reads an AdmissionConfiguration; an empty path gives the defaults. Errors name
// the plugin and its field. A plugin without settings here is refused, not passed over.
func ReadSettings(path string) (Settings, error) {
	var s Settings
	var err error
	if s.PodSecurity, err = load.LoadFromData(nil); err != nil || path == "" {
		return s, err
	}
	raw, err := readBounded(path)
	if err != nil {
		return s, err
	}
	var c configuration
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if c.Kind != "AdmissionConfiguration" || !slices.Contains([]string{"apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"}, c.APIVersion) {
		return s, fmt.Errorf("%s: kind and apiVersion are %q and %q, not AdmissionConfiguration and apiserver.config.k8s.io/v1", path, c.Kind, c.APIVersion)
	}
	seen := map[string]bool{}
	for i, p := range c.Plugins {
		if err := s.read(p.Name, p.Path, filepath.Dir(path), p.Configuration); err != nil {
			return s, fmt.Errorf("%s: plugins[%d] (%s): %w", path, i, p.Name, err)
		}
		if seen[p.Name] {
			return s, fmt.Errorf("%s: plugins[%d]: %s is there twice", path, i, p.Name)
		}
		seen[p.Name] = true
	}
	return s, nil
}

// read takes a plugin's settings: embedded, or in a file beside the first one.
func (s *Settings) read(name, path, dir string, embedded *runtime.RawExtension) error {
	var raw []byte
	switch {
	case embedded != nil && path != "":
		return errors.New("has both path and configuration")
	case embedded != nil:
		raw = embedded.Raw
	case path != "":
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		var err error
		if raw, err = readBounded(path); err != nil {
			return err
		}
	}
	switch name {
	case "PodSecurity":
		c, err := load.LoadFromData(raw)
		if err != nil {
			return err
		}
		s.PodSecurity = c
		return validation.ValidatePodSecurityConfiguration(c).ToAggregate()
	case "PodNodeSelector":
		return s.nodeSelectors(raw)
	}
	return errors.New("there are no settings of this plugin here; PodSecurity and PodNodeSelector have some")
}

func (s *Settings) nodeSelectors(raw []byte) error {
	var c struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return err
	}
	s.NodeSelectors = map[string]labels.Set{}
	for namespace, text := range c.Selectors {
		set, err := labels.ConvertSelectorToLabelsMap(text)
		if err != nil {
			return fmt.Errorf("podNodeSelectorPluginConfig[%s]: %w", namespace, err)
		}
		s.NodeSelectors[namespace] = set
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings of admission: %w", err)
	}
	if info.Size() > maxSettings {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxSettings)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings of admission: %w", err)
	}
	if strings.TrimSpace(string(raw)) == "" {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return raw, nil
}
