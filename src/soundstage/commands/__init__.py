"""The command line, one file a group of commands; `soundstage.cli` puts them together."""
