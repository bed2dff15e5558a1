package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Optional is a value that the API may leave out. Where it was absent, null, of
// another type or a time before 1970, Valid is false.
type Optional[T any] struct {
	Value T
	Valid bool
}

// UnmarshalJSON never fails: a value of a wrong type costs itself only.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	*o = Optional[T]{}
	if string(data) == "null" {
		return nil
	}
	var err error
	switch v := any(&o.Value).(type) { // several times faster than another Unmarshal
	case *float64:
		*v, err = strconv.ParseFloat(string(data), 64)
	case *bool:
		if *v = string(data) == "true"; !*v && string(data) != "false" {
			err = errors.New("not a bool")
		}
	case *time.Time:
		if err = v.UnmarshalJSON(data); v.Unix() < 0 {
			err = errors.New("before 1970")
		}
	default:
		err = json.Unmarshal(data, v)
	}
	if o.Valid = err == nil; !o.Valid {
		*o = Optional[T]{}
	}
	return nil
}

// unmarshal decodes JSON into v; a value of a wrong type costs itself only.
func unmarshal(data []byte, v any) error {
	if err := lenient(json.Unmarshal(data, v)); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	return nil
}

// lenient drops the error about a value of a wrong type: encoding/json skips
// it, goes on, and tells of the first.
func lenient(err error) error {
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}

// decodeList reads {"name": [...], "next_page_token": "..."}, and calls each for
// every entry. The token is left out if it is nil.
func decodeList[T any](r *cappedReader, name string, token *string, each func(*T)) error {
	dec := json.NewDecoder(r)
	r.decoded = dec.InputOffset
	if err := expect(dec, json.Delim('{')); err != nil {
		return err
	}
	found := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		switch {
		case key == name:
			found = true
			err = decodeEntries(dec, name, each)
		case key == "next_page_token" && token != nil:
			if err = dec.Decode(token); err != nil && lenient(err) == nil {
				err = errors.New("next_page_token is not a string")
			}
		default:
			var skipped json.RawMessage
			err = dec.Decode(&skipped)
		}
		if err != nil {
			return err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("no %s", name)
	}
	// To the end, where a checksum may be; and the connection is used again.
	if token, err := dec.Token(); !errors.Is(err, io.EOF) {
		return cmp.Or(err, fmt.Errorf("%v behind the list", token))
	}
	return nil
}

// decodeEntries reads an array, or null.
func decodeEntries[T any](dec *json.Decoder, name string, each func(*T)) error {
	open, err := dec.Token()
	switch {
	case err != nil:
		return err
	case open == nil:
		return nil
	case open != json.Delim('['):
		return fmt.Errorf("%s is not an array", name)
	}
	var entry, empty T
	for dec.More() {
		entry = empty
		if err := lenient(dec.Decode(&entry)); err != nil {
			return err
		}
		each(&entry)
	}
	return expect(dec, json.Delim(']'))
}

// expect reads a bracket.
func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err == nil && got != want {
		err = fmt.Errorf("%v where %v should be", got, want)
	}
	return err
}
