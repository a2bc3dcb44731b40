package seal

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// envelope is the value that a key service has part in, in upstream's protobuf:
// EncryptedObject{1: encryptedData, 2: keyID, 3: encryptedDEKSource, 4: annotations (a map of
// bytes), 5: encryptedDEKSourceType}.
type envelope struct {
	data        []byte
	keyID       string
	sealed      []byte // the seed or key, as the service sealed it
	annotations map[string][]byte
	source      uint64
}

// sourceSeed: keys are derived from what the service seals; otherwise (0) it is the key.
const sourceSeed = 1

// Limits of what a service may add to each value, in bytes.
const (
	maxKeyID       = 1 << 10
	maxSealed      = 1 << 10
	maxAnnotations = 32 << 10
)

func (e *envelope) check() error {
	size := 0
	for k, v := range e.annotations {
		size += len(k) + len(v)
	}
	switch {
	case e.keyID == "" || len(e.keyID) > maxKeyID:
		return fmt.Errorf("%w: the key's name has %d bytes", errEnvelope, len(e.keyID))
	case len(e.sealed) == 0 || len(e.sealed) > maxSealed:
		return fmt.Errorf("%w: the sealed seed has %d bytes", errEnvelope, len(e.sealed))
	case size > maxAnnotations:
		return fmt.Errorf("%w: its annotations have %d bytes", errEnvelope, size)
	case e.source > sourceSeed:
		return fmt.Errorf("%w: source %d is unknown", errEnvelope, e.source)
	}
	return nil
}

// id is the same for envelopes that the service opens alike.
func (e *envelope) id() string {
	b := protowire.AppendVarint(nil, e.source)
	b = protowire.AppendBytes(b, e.sealed)
	b = protowire.AppendString(b, e.keyID)
	return string(appendAnnotations(b, e.annotations))
}

func appendAnnotations(b []byte, annotations map[string][]byte) []byte {
	for _, k := range slices.Sorted(maps.Keys(annotations)) {
		one := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), k)
		one = protowire.AppendBytes(protowire.AppendTag(one, 2, protowire.BytesType), annotations[k])
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), one)
	}
	return b
}

func (e *envelope) encode() []byte {
	b := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), e.data)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), e.keyID)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), e.sealed)
	b = appendAnnotations(b, e.annotations)
	if e.source != 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), e.source)
	}
	return b
}

func decodeEnvelope(b []byte) (envelope, error) {
	var e envelope
	err := eachField(b, func(number protowire.Number, body []byte, value uint64) error {
		switch number {
		case 1:
			e.data = body
		case 2:
			e.keyID = string(body)
		case 3:
			e.sealed = body
		case 4:
			var k string
			var v []byte
			if err := eachField(body, func(number protowire.Number, body []byte, _ uint64) error {
				switch number {
				case 1:
					k = string(body)
				case 2:
					v = body
				}
				return nil
			}); err != nil {
				return err
			}
			if e.annotations == nil {
				e.annotations = map[string][]byte{}
			}
			e.annotations[k] = v
		case 5:
			e.source = value
		}
		return nil
	})
	if err == nil {
		err = e.check()
	}
	return e, err
}

// eachField walks a message; of a field that is no text and no number nothing is shown.
func eachField(b []byte, visit func(number protowire.Number, body []byte, value uint64) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errEnvelope
		}
		b = b[n:]
		var body []byte
		var value uint64
		switch kind {
		case protowire.BytesType:
			body, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return errEnvelope
		}
		if err := visit(number, body, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
