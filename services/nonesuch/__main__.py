from nonesuch.cli.main import main

main()
