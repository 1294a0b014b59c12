"""What a live run makes on the machine: namespaces, interfaces, programs; and that all of it is taken down."""
