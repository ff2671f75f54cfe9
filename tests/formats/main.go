// Reads a dotenv file as docker compose does, and prints it as JSON.
package main

import (
	"encoding/json"
	"os"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err == nil {
		var variables map[string]string
		variables, err = dotenv.ParseWithLookup(file, func(string) (string, bool) { return "", false })
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(variables)
		}
	}
	if err != nil {
		panic(err)
	}
}
