package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/proa-dev/proa/apis/api"
)

// Media types of request bodies.
const (
	mediaJSON     = runtime.ContentTypeJSON
	mediaYAML     = runtime.ContentTypeYAML
	mediaProtobuf = runtime.ContentTypeProtobuf
	mediaCBOR     = runtime.ContentTypeCBOR
)

// protobufMagic opens every protobuf body; a runtime.Unknown follows.
var protobufMagic = []byte("k8s\x00")

// protobufMessage is what the generated types implement.
type protobufMessage interface {
	Reset()
	Unmarshal([]byte) error
}

// Decode reads a request body into the object that the request's path calls for. A body
// may leave out apiVersion and kind (but not that of a custom resource); what it states
// must be want. validation is the request's fieldValidation: under "Strict" unknown and
// duplicate fields are an error, under "Warn" (or "") they are the warnings returned, under
// "Ignore" they are not looked for. An empty contentType is JSON; who does not speak CBOR asks Speaks before. Errors are *apierrors.StatusError: 400 for
// what cannot be read, 415 for a content type nobody speaks. The caller bounds the body.
func Decode(want schema.GroupVersionKind, into runtime.Object, contentType string, body []byte, validation string) (warnings []string, err error) {
	return decode(want, into, nil, contentType, body, validation)
}

// DecodeKind is Decode of an object of a kind; the fields that a custom one does not have are
// removed, and unknown.
func DecodeKind(kind *api.Kind, into api.Object, contentType string, body []byte, validation string) (warnings []string, err error) {
	return decode(kind.GroupVersionKind, into, kind.Custom, contentType, body, validation)
}

func decode(want schema.GroupVersionKind, into runtime.Object, custom *api.Custom, contentType string, body []byte, validation string) (warnings []string, err error) {
	media, ok := mediaOf(contentType)
	if !ok {
		return nil, unsupported(contentType, true)
	}
	switch media {
	case mediaProtobuf:
		return nil, decodeProtobuf(want, into, body)
	case mediaJSON:
		return decodeText(want, into, custom, body, body, nil, validation)
	case mediaYAML, "application/x-yaml", "text/yaml":
		return decodeYAML(want, into, custom, body, validation)
	case mediaCBOR:
		data, err := CBORToJSON(body)
		if err != nil {
			return nil, unreadable(want, metav1.TypeMeta{}, body, err)
		}
		return decodeText(want, into, custom, data, data, nil, validation)
	}
	return nil, unsupported(contentType, true)
}

// Speaks gives the 415 for a content type that Decode does not take, or not unless cbor.
func Speaks(contentType string, cbor bool) error {
	media, ok := mediaOf(contentType)
	if ok && (slices.Contains(decoded, media) || cbor && media == mediaCBOR) {
		return nil
	}
	return unsupported(contentType, cbor)
}

// mediaOf is the media type of a Content-Type, most of which have no parameters.
func mediaOf(contentType string) (media string, ok bool) {
	if contentType == "" {
		return mediaJSON, true
	}
	if slices.Contains(decoded, contentType) {
		return contentType, true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return media, err == nil
}

// decoded is what Decode always takes.
var decoded = []string{mediaJSON, mediaYAML, mediaProtobuf, "application/x-yaml", "text/yaml"}

func unsupported(contentType string, cbor bool) error {
	accepted := decoded[:3:3]
	if cbor {
		accepted = append(accepted, mediaCBOR)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 415, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}

func decodeYAML(want schema.GroupVersionKind, into runtime.Object, custom *api.Custom, body []byte, validation string) ([]string, error) {
	if utilyaml.IsJSONBuffer(body) && body[0] == '{' {
		// JSON is YAML; the JSON parser finds more, faster. Only if that fails is it read as YAML.
		if warnings, err := decodeText(want, into, custom, body, body, nil, validation); err == nil {
			return warnings, nil
		}
		reset(into)
	}
	if err := checkAliases(body); err != nil {
		return nil, err
	}
	var strict []error
	read := yaml.YAMLToJSONStrict
	if validation == metav1.FieldValidationIgnore {
		read = yaml.YAMLToJSON
	}
	data, err := read(body)
	if err != nil && validation != metav1.FieldValidationIgnore { // read again only if something is wrong
		strict = append(strict, err)
		data, err = yaml.YAMLToJSON(body)
	}
	if err != nil {
		return nil, unreadable(want, metav1.TypeMeta{}, body, err)
	}
	return decodeText(want, into, custom, data, body, strict, validation)
}

// decodeText decodes JSON data; body is what the client sent, for messages, and strict
// what an earlier step found.
func decodeText(want schema.GroupVersionKind, into runtime.Object, custom *api.Custom, data, body []byte, strict []error, validation string) ([]string, error) {
	found, err := unmarshal(data, into, validation)
	strict = append(strict, found...)
	if err != nil {
		stated, err2 := StatedKind(data)
		if err2 != nil {
			return nil, unreadable(want, metav1.TypeMeta{}, body, err2)
		}
		if err2 := checkKind(want, into, stated, body); err2 != nil {
			return nil, err2
		}
		return nil, unreadable(want, stated, body, err)
	}
	gv, kind := into.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	if u, ok := into.(*unstructured.Unstructured); ok {
		gv, kind = u.GetAPIVersion(), u.GetKind()
	}
	if gv == "" { // left out, or no version at all
		stated, err := StatedKind(data)
		if err != nil {
			return nil, unreadable(want, metav1.TypeMeta{}, body, err)
		}
		gv = stated.APIVersion
	}
	if err := checkKind(want, into, metav1.TypeMeta{APIVersion: gv, Kind: kind}, body); err != nil {
		return nil, err
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	more, err := admit(custom, into)
	if err != nil {
		return nil, unreadable(want, metav1.TypeMeta{APIVersion: want.GroupVersion().String(), Kind: want.Kind}, body, err)
	}
	strict = append(strict, more...)
	if len(strict) == 0 || validation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	if validation == metav1.FieldValidationStrict {
		return nil, unreadable(want, metav1.TypeMeta{APIVersion: want.GroupVersion().String(), Kind: want.Kind}, body, runtime.NewStrictDecodingError(strict))
	}
	return texts(strict), nil
}

// StatedKind is what a body in JSON says it is, read without what it holds; the error is the one that clients know.
func StatedKind(data []byte) (metav1.TypeMeta, error) {
	stated := struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
	}{}
	if err := json.Unmarshal(data, &stated); err != nil {
		return metav1.TypeMeta{}, fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	return metav1.TypeMeta{APIVersion: stated.APIVersion, Kind: stated.Kind}, nil
}

// admit removes what a custom object cannot have; each such field is an error of strict reading.
func admit(custom *api.Custom, obj runtime.Object) (strict []error, err error) {
	one, ok := obj.(api.Object)
	if custom == nil || !ok {
		return nil, nil
	}
	unknown, err := custom.Admit(one)
	for _, path := range unknown {
		strict = append(strict, fmt.Errorf("unknown field %q", path))
	}
	return strict, err
}

// unmarshal decodes JSON; strict errors are looked for unless validation is "Ignore".
func unmarshal(data []byte, into runtime.Object, validation string) (strict []error, err error) {
	var target any = into
	u, custom := into.(*unstructured.Unstructured)
	content := map[string]any{}
	if custom {
		target = &content
	} else if err := checkText(data, reflect.TypeOf(into).Elem()); err != nil {
		return nil, err
	}
	if validation == metav1.FieldValidationIgnore {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, target)
	} else {
		strict, err = kjson.UnmarshalStrict(data, target)
	}
	if custom {
		if content == nil {
			content = map[string]any{}
		}
		u.Object = content
	}
	return strict, err
}

func decodeProtobuf(want schema.GroupVersionKind, into runtime.Object, body []byte) error {
	if len(body) == 0 {
		return unreadable(want, metav1.TypeMeta{}, body, errors.New("empty data"))
	}
	raw, ok := bytes.CutPrefix(body, protobufMagic)
	if !ok {
		return unreadable(want, metav1.TypeMeta{}, body, fmt.Errorf("provided data does not appear to be a protobuf message, expected prefix %v", protobufMagic))
	}
	message, ok := into.(protobufMessage)
	if !ok {
		return apierrors.NewGenericServerResponse(415, "", schema.GroupResource{}, "", fmt.Sprintf("%s cannot be sent as %s", want.Kind, mediaProtobuf), 0, false)
	}
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(raw); err != nil {
		return unreadable(want, metav1.TypeMeta{}, body, err)
	}
	stated := metav1.TypeMeta{APIVersion: envelope.APIVersion, Kind: envelope.Kind}
	if err := checkKind(want, into, stated, body); err != nil {
		return err
	}
	// Of all kinds only the schemas of custom resources hold themselves.
	if want.Group == "apiextensions.k8s.io" && tooDeep(envelope.Raw) {
		return unreadable(want, stated, body, errors.New("exceeded max depth"))
	}
	if err := checkWire(envelope.Raw, reflect.TypeOf(into).Elem()); err != nil {
		return unreadable(want, stated, body, err)
	}
	message.Reset()
	if err := message.Unmarshal(envelope.Raw); err != nil {
		return unreadable(want, stated, body, err)
	}
	into.GetObjectKind().SetGroupVersionKind(want)
	return nil
}

// checkKind compares what a body says it is with what its path calls for.
func checkKind(want schema.GroupVersionKind, into runtime.Object, stated metav1.TypeMeta, body []byte) error {
	if _, custom := into.(*unstructured.Unstructured); custom {
		if stated.Kind == "" {
			return unreadable(want, stated, body, runtime.NewMissingKindErr(string(body)))
		}
		if stated.APIVersion == "" {
			return unreadable(want, stated, body, runtime.NewMissingVersionErr(string(body)))
		}
	}
	gv, err := schema.ParseGroupVersion(stated.APIVersion)
	if err != nil {
		return unreadable(want, metav1.TypeMeta{}, body, err)
	}
	u, custom := into.(*unstructured.Unstructured)
	if custom && stated.Kind != want.Kind && gv == want.GroupVersion() {
		return apierrors.NewInvalid(gv.WithKind(stated.Kind).GroupKind(), u.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("kind"), stated.Kind, "must be "+want.Kind),
		})
	}
	if !custom || stated.Kind != want.Kind {
		if err := otherKind(want, gv, stated.Kind); err != nil {
			if gv.Empty() {
				gv = want.GroupVersion()
			}
			if stated.Kind == "" {
				stated.Kind = want.Kind
			}
			return unreadable(want, metav1.TypeMeta{APIVersion: gv.String(), Kind: stated.Kind}, body, err)
		}
	}
	// Typed clients name the options of a deletion by the group version they delete from.
	if _, anywhere := into.(*metav1.DeleteOptions); !anywhere && !gv.Empty() && gv != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", gv, want.GroupVersion()))
	}
	return nil
}

// otherKind says why what is stated to be of a kind is not what is wanted, nil if it may be. Empty
// parts are as wanted.
func otherKind(want schema.GroupVersionKind, gv schema.GroupVersion, kind string) error {
	full := gv.WithKind(kind)
	if gv.Empty() {
		full = want.GroupVersion().WithKind(kind)
	}
	if kind == "" {
		full.Kind = want.Kind
	}
	switch {
	case full == want:
		return nil
	case scheme.Scheme.Recognizes(want) && !scheme.Scheme.Recognizes(full):
		return fmt.Errorf("no kind %q is registered for version %q in scheme %q", full.Kind, full.GroupVersion(), SchemeName)
	case full.Kind != want.Kind:
		return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", full.Version, full.Kind, InternalName(want.Group), want.Kind)
	}
	return nil
}

// SchemeName is what Kubernetes calls the list of kinds in messages.
const SchemeName = "pkg/runtime/scheme.go:111"

// InternalName is, in messages, what Kubernetes calls the form of a group's kinds that it computes with.
func InternalName(group string) string {
	name, _, _ := strings.Cut(group, ".")
	if name == "" || name == "events" {
		return "core"
	}
	return name
}

// unreadable is the 400 for a body that is not what is wanted; stated is what it says it is.
func unreadable(want schema.GroupVersionKind, stated metav1.TypeMeta, body []byte, cause error) error {
	if stated.Kind != "" {
		gv, err := schema.ParseGroupVersion(stated.APIVersion)
		if err != nil || gv.Empty() {
			gv = want.GroupVersion()
		}
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", stated.Kind, gv.Version, want.Kind, cause))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, cause, summary(body)))
}

// summary shows the first 30 bytes of a body: as text, or in hex if it is protobuf.
func summary(body []byte) string {
	const most = 30
	switch {
	case len(body) == 0:
		return "<empty>"
	case body[0] == '{' && len(body) > most:
		return string(body[:most]) + " ..."
	case body[0] == '{':
		return string(body)
	case len(body) > most:
		return fmt.Sprintf("%x ...", body[:most])
	}
	return fmt.Sprintf("%x", body)
}

func reset(obj runtime.Object) {
	if v := reflect.ValueOf(obj); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}

// texts gives each error once, in order. The YAML parser reports several lines in one error.
func texts(errs []error) []string {
	seen := make(map[string]bool, len(errs))
	var out []string
	for _, err := range errs {
		for line := range strings.Lines(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: unmarshal errors:\n")) {
			text := strings.Join(strings.Fields(line), " ")
			if !seen[text] {
				seen[text] = true
				out = append(out, text)
			}
		}
	}
	return out
}
