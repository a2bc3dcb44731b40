// Package patch turns what a client sent into objects: bodies are decoded, patches are
// applied to what is there, and the ownership of fields is kept (server-side apply,
// KEP-555).
//
// The one idea: everything here is a function of bytes and read-only objects; nothing
// knows of HTTP or storage. Errors are the Status that the client shall see.
//
// Used by apiserver.
package patch

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Media types of bodies.
const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

// maxDepth bounds how deeply a body may be nested.
const maxDepth = 512

// Decode reads a body into an object of the wanted kind. validation says what becomes of
// fields that are unknown or there twice: Strict refuses, Warn returns warnings.
func Decode(want schema.GroupVersionKind, into runtime.Object, contentType string, body []byte, validation string) (warnings []string, err error) {
	media := typeJSON
	if contentType != "" {
		if media, _, err = mime.ParseMediaType(contentType); err != nil {
			media = contentType
		}
	}
	var strict []string
	switch media {
	case typeProtobuf:
		return nil, decodeProtobuf(want, into, body)
	case typeYAML:
		strict, body, err = fromYAML(body)
	case typeJSON:
	default:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "",
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf", 0, false)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	more, err := decodeJSON(want, into, body)
	if err != nil {
		return nil, err
	}
	return verdict(want, append(strict, more...), validation)
}

// verdict does with strict decoding's findings what the client asked for.
func verdict(want schema.GroupVersionKind, findings []string, validation string) ([]string, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	switch validation {
	case metav1.FieldValidationStrict:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: strict decoding error: %s",
			want.Kind, want.Version, want.Kind, strings.Join(findings, ", ")))
	case metav1.FieldValidationWarn:
		return findings, nil
	}
	return nil, nil
}

func fromYAML(body []byte) (findings []string, out []byte, err error) {
	out, err = yaml.YAMLToJSONStrict(body)
	if err == nil {
		return nil, out, nil
	}
	lax, laxErr := yaml.YAMLToJSON(body)
	if laxErr != nil {
		return nil, nil, laxErr
	}
	return []string{err.Error()}, lax, nil // keys that are there twice
}

func decodeJSON(want schema.GroupVersionKind, into runtime.Object, body []byte) (findings []string, err error) {
	refuse := func(err error) error {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", want.Kind, want.Version, want.Kind, err))
	}
	if err := checkDepth(body); err != nil {
		return nil, refuse(err)
	}
	var meta metav1.TypeMeta
	if err := json.Unmarshal(body, &meta); err != nil {
		return nil, refuse(fmt.Errorf("couldn't get version/kind; json parse error: %w", err))
	}
	if err := checkKind(want, meta.APIVersion, meta.Kind); err != nil {
		return nil, err
	}
	strict, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return nil, refuse(err)
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	for _, f := range strict {
		findings = append(findings, f.Error())
	}
	return findings, nil
}

// checkKind: a body may leave its kind out, but not name another.
func checkKind(want schema.GroupVersionKind, version, kind string) error {
	expected, _ := want.ToAPIVersionAndKind()
	if version != "" && version != expected {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", version, expected))
	}
	if kind != "" && kind != want.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: converting (%s) to (%s): unknown conversion", kind, version, want.Kind, kind, want.Kind))
	}
	return nil
}

// checkDepth refuses bodies nested so deeply that decoding them would exhaust the stack.
func checkDepth(body []byte) error {
	depth, inText, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped = c == '\\'
			inText = c != '"'
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("exceeded max depth of %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// message is what generated types can do.
type message interface {
	Reset()
	Unmarshal([]byte) error
}

func decodeProtobuf(want schema.GroupVersionKind, into runtime.Object, body []byte) error {
	raw, found := strings.CutPrefix(string(body), "k8s\x00")
	if !found {
		return apierrors.NewBadRequest("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal([]byte(raw)); err != nil {
		return apierrors.NewBadRequest("decode protobuf: " + err.Error())
	}
	if err := checkKind(want, envelope.APIVersion, envelope.Kind); err != nil {
		return err
	}
	m, ok := into.(message)
	if !ok {
		return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "",
			fmt.Sprintf("%s has no protobuf form; send JSON", want.Kind), 0, false)
	}
	m.Reset()
	if err := m.Unmarshal(envelope.Raw); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", want.Kind, want.Version, want.Kind, err))
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	return nil
}
