package patch

import (
	"bytes"
	"fmt"

	goyaml "go.yaml.in/yaml/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"
)

// YAMLToJSON is a YAML body as JSON. Aliases may not make more of it than a body may hold: the
// parser bounds how many values they add, not how long these are, so that 100 KB which
// name one text ten thousand times would become gigabytes.
func YAMLToJSON(body []byte) ([]byte, error) {
	if err := checkAliases(body); err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(body)
}

// checkAliases gives a 413 for a body whose aliases make too much of it. Bodies that cannot
// have any are not parsed for it, and errors are left to who reads the body next.
func checkAliases(body []byte) error {
	if !bytes.ContainsRune(body, '&') || !bytes.ContainsRune(body, '*') {
		return nil
	}
	var content any
	if goyaml.Unmarshal(body, &content) != nil {
		return nil
	}
	if left := spend(content, maxObject); left < 0 {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("aliases make more than %d bytes of the body", maxObject))
	}
	return nil
}

// spend takes what a value is as JSON, about, from a budget of bytes, and stops when it is used up.
func spend(value any, left int) int {
	switch v := value.(type) {
	case string:
		left -= len(v)
	case []any:
		for _, item := range v {
			if left = spend(item, left); left < 0 {
				break
			}
		}
	case map[any]any:
		for key, item := range v {
			if left = spend(item, spend(key, left)); left < 0 {
				break
			}
		}
	}
	return left - 2 // quotes, brackets, commas
}
