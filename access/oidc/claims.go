package oidc

import (
	"errors"
	"math"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// audience is a string or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if josejson.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	var many []string
	if err := josejson.Unmarshal(data, &many); err != nil {
		return err
	}
	*a = many
	return nil
}

// jsonTime is seconds since 1970, whole or not.
type jsonTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *jsonTime) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := josejson.Unmarshal(data, &seconds); err != nil {
		return err
	}
	if math.IsNaN(seconds) || math.Abs(seconds) > 1e12 {
		return errors.New("a time beyond reason")
	}
	t.Time = time.Unix(int64(seconds), 0)
	return nil
}
