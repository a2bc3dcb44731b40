// Package settings fills in flags that were not given on the command line, first from
// the environment (PROA_HTTPS_PORT for --https-port), then from a YAML file whose keys
// are the flags' names.
//
// The one idea: a flag is the only definition of a setting; the other two ways carry
// the same name, so nothing can be set in one way alone.
//
// Used by cmd/proa before a command runs.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return "PROA_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply sets the flags that were not given. known are the names that any command has:
// a key of the file outside them is an error, one of another command's is passed over.
// A file that does not exist sets nothing.
func Apply(flags *pflag.FlagSet, file string, lookup func(string) (string, bool), known map[string]bool) error {
	values, err := read(file, known)
	if err != nil {
		return err
	}
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		if value, ok := lookup(EnvName(f.Name)); ok {
			if err := flags.Set(f.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", EnvName(f.Name), err))
			}
			return
		}
		for _, value := range values[f.Name] {
			if err := flags.Set(f.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", file, f.Name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// read gives the file's values as flags take them; a list sets a flag several times, and so does
// a map, as key=value.
func read(file string, known map[string]bool) (map[string][]string, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := yaml.UnmarshalStrict(raw, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	values := map[string][]string{}
	var unknown []string
	for key, value := range content {
		if !known[key] {
			unknown = append(unknown, key)
			continue
		}
		texts, ok := flagValues(value)
		if !ok {
			return nil, fmt.Errorf("%s: %s: must be a text, a number, true or false, or a list or map of these", file, key)
		}
		values[key] = texts
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("%s: unknown setting %s; settings are named like flags, see 'proa up --help'", file, strings.Join(unknown, ", "))
	}
	return values, nil
}

// flagValues are the texts that a flag is set to, one after the other; false: the value is none of a flag.
func flagValues(value any) ([]string, bool) {
	var texts []string
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			t, ok := scalar(one)
			if !ok {
				return nil, false
			}
			texts = append(texts, t)
		}
		return texts, true
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			t, ok := scalar(v[key])
			if !ok {
				return nil, false
			}
			texts = append(texts, key+"="+t)
		}
		return texts, true
	}
	t, ok := scalar(value)
	return []string{t}, ok
}

func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case string, bool:
		return fmt.Sprint(v), true
	}
	return "", false
}
