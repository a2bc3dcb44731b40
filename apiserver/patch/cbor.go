package patch

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
)

// What reading CBOR may cost in memory, in bytes: a byte of it can ask for hundreds. What its values
// take is estimated, and not read if that is more than maxCost. The largest objects that etcd
// takes stay far below.
const (
	maxCost   = 64 << 20
	valueCost = 32  // a value
	listCost  = 40  // a list, without its values
	emptyCost = 48  // a map that is empty
	mapCost   = 320 // one of up to eight entries, without its values
	entryCost = 24  // each entry
)

var (
	errCost = fmt.Errorf("would take more than %d MiB of memory", maxCost>>20)
	errText = errors.New("a text is not valid UTF-8")
	errCut  = errors.New("unexpected end of data")
)

// CBORToJSON gives the JSON of one item of CBOR. It is read as Kubernetes does: texts may be byte
// strings, such as have a tag for a later encoding become texts of it, other tags mean nothing,
// maps with a key twice, NaN, infinities and undefined are errors. The caller bounds the body.
func CBORToJSON(body []byte) ([]byte, error) {
	if err := checkItems(body); err != nil {
		return nil, err
	}
	var content any
	if err := cbor.Unmarshal(body, &content); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(content); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Major types, the upper three bits of an item's first byte.
const (
	cborBytes = iota + 2
	cborText
	cborArray
	cborMap
	cborTag
)

// First bytes of a byte string without a length, of the end of what has none, and of an empty map.
const endless, end, emptyMap = 0x5f, 0xff, 0xa0

// checkItems estimates what decoding costs, and looks at byte strings that are to be texts. Nesting does not
// matter to it: it goes from one item's head to the next. What is not well-formed is found by
// who decodes it.
func checkItems(data []byte) error {
	cost, encoded, parts := 0, false, false // parts: of a byte string that is encoded later
	for len(data) > 0 {
		first := data[0]
		major, n, size, err := cborHead(data)
		if err != nil {
			return err
		}
		data = data[size:]
		if first == endless {
			parts = encoded
		} else if first == end {
			parts = false
		}
		cost += valueCost
		switch major {
		case cborBytes, cborText:
			if n > uint64(len(data)) {
				return errCut
			}
			if major == cborBytes && !encoded && !parts && !utf8.Valid(data[:n]) {
				return errText
			}
			data = data[n:]
		case cborArray:
			cost += listCost
		case cborMap:
			if n > uint64(len(data)) {
				return errCut
			}
			if first == emptyMap {
				cost += emptyCost
			} else {
				cost += mapCost + int(n)*entryCost
			}
		}
		if cost > maxCost {
			return errCost
		}
		encoded = major == cborTag && n >= 21 && n <= 23 // base64url, base64, base16
	}
	return nil
}

// cborHead reads the head of an item: its major type and argument, which is 0 for an indefinite
// length, whose parts follow as items and end with one of their own.
func cborHead(data []byte) (major byte, n uint64, size int, err error) {
	major, info := data[0]>>5, data[0]&0x1f
	switch {
	case info < 24:
		return major, uint64(info), 1, nil
	case info > 27:
		return major, 0, 1, nil
	}
	size = 1 + 1<<(info-24)
	if len(data) < size {
		return 0, 0, 0, errCut
	}
	var whole [8]byte
	copy(whole[9-size:], data[1:size])
	return major, binary.BigEndian.Uint64(whole[:]), size, nil
}
